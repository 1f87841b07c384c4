//! Which entry filters hold. Pulsar's record and paths (`entryFilters`) name filters; here the only one is built in.

use serde_json::Value;

/// Property of the records.
pub const ENTRY_FILTERS: &str = "entryFilters";

/// The filter whose arguments are the properties of each subscription; see the topic's `filter` module.
const BY_PROPERTIES: &str = "properties";

/// `None`: it is no record of filters, or names others than there are.
fn names(value: &Value) -> Option<Vec<&str>> {
    let names = value.as_object()?.get("entryFilterNames")?.as_str()?;
    Some(names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
}

/// May it be stored?
pub fn are_entry_filters(value: &Value) -> bool {
    names(value).is_some_and(|names| names.iter().all(|name| *name == BY_PROPERTIES))
}

/// Filters that a broker of Pulsar may have stored are not ours to run.
pub(super) fn by_properties(value: &Value) -> bool {
    names(value).is_some_and(|names| names.contains(&BY_PROPERTIES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_are_named_as_in_pulsars_record() {
        let named = |names: &str| json!({ "entryFilterNames": names });
        assert!(are_entry_filters(&named("properties")) && by_properties(&named("properties")));
        assert!(are_entry_filters(&named("")) && !by_properties(&named("")));
        assert!(!are_entry_filters(&named("properties,jms")) && by_properties(&named("jms, properties")));
        assert!(!are_entry_filters(&json!({ "names": "properties" })));
    }
}
