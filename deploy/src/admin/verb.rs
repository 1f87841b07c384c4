//! A verb: what it takes on the command line, and the request it becomes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::{ArgAction, ArgMatches, Command};
use serde_json::Value;

use super::call::{Call, Method};
use super::path;

/// One row of the table.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) method: Method,
    /// `{name}` stands for the argument of that name; `{topic}` and `{namespace}` for their parts of a path.
    pub(super) path: &'static str,
    pub(super) args: &'static [Arg],
    /// Arguments that go into the query, when given, under a name of the REST.
    pub(super) query: &'static [(&'static str, &'static str)],
    pub(super) body: fn(&Values) -> Result<Option<Value>>,
    /// Takes the place of `path` when the argument of that name is given.
    pub(super) instead: Option<(&'static str, &'static str)>,
}

/// Something that a verb takes.
#[derive(Clone, Copy)]
pub(super) struct Arg {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) place: Place,
    pub(super) required: bool,
    pub(super) many: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// By its position.
    Word,
    /// Behind `--name`, or `-c`.
    Option(Option<char>),
    /// `--name` alone.
    Flag(Option<char>),
}

/// What was given, by the argument's name.
pub(super) struct Values(BTreeMap<&'static str, Vec<String>>);

pub(super) const fn word(name: &'static str, help: &'static str) -> Arg {
    Arg { name, help, place: Place::Word, required: true, many: false }
}

pub(super) const fn option(name: &'static str, short: Option<char>, help: &'static str) -> Arg {
    Arg { name, help, place: Place::Option(short), required: false, many: false }
}

pub(super) const fn flag(name: &'static str, short: Option<char>, help: &'static str) -> Arg {
    Arg { name, help, place: Place::Flag(short), required: false, many: false }
}

impl Arg {
    pub(super) const fn required(self) -> Self {
        Arg { required: true, ..self }
    }

    /// May be given more than once, or as a list with commas.
    pub(super) const fn many(self) -> Self {
        Arg { many: true, ..self }
    }

    fn clap(&self) -> clap::Arg {
        let arg = clap::Arg::new(self.name).help(self.help).required(self.required);
        let (arg, short) = match self.place {
            Place::Word => (arg, None),
            Place::Option(short) => (arg.long(self.name).allow_negative_numbers(true), short),
            Place::Flag(short) => (arg.long(self.name).action(ArgAction::SetTrue), short),
        };
        let arg = match short {
            Some(short) => arg.short(short),
            None => arg,
        };
        if self.many { arg.action(ArgAction::Append).value_delimiter(',') } else { arg }
    }
}

impl Values {
    /// The value of an argument that is always there.
    pub(super) fn get(&self, name: &str) -> Result<&str> {
        self.find(name).with_context(|| format!("--{name} is needed"))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str)
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.get(name).map(|values| values.iter().map(String::as_str).collect()).unwrap_or_default()
    }

    /// A whole number.
    pub(super) fn count(&self, name: &str) -> Result<i64> {
        let text = self.get(name)?;
        text.parse().with_context(|| format!("{name} must be a whole number, not '{text}'"))
    }
}

/// No body.
pub(super) fn empty(_: &Values) -> Result<Option<Value>> {
    Ok(None)
}

impl Verb {
    /// What most verbs are: no query, no body.
    pub(super) const fn new(
        name: &'static str,
        method: Method,
        path: &'static str,
        args: &'static [Arg],
        about: &'static str,
    ) -> Self {
        Verb { name, about, method, path, args, query: &[], body: empty, instead: None }
    }

    pub(super) const fn body(self, body: fn(&Values) -> Result<Option<Value>>) -> Self {
        Verb { body, ..self }
    }

    pub(super) const fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Verb { query, ..self }
    }

    /// With the argument `name`, the path is another one.
    pub(super) const fn or(self, name: &'static str, path: &'static str) -> Self {
        Verb { instead: Some((name, path)), ..self }
    }

    pub(super) fn command(&self) -> Command {
        Command::new(self.name).about(self.about).args(self.args.iter().map(Arg::clap))
    }

    /// The request for what was given.
    pub(super) fn call(&self, matches: &ArgMatches) -> Result<Call> {
        let mut values = BTreeMap::new();
        for arg in self.args {
            let given: Vec<String> = match arg.place {
                Place::Flag(_) => matches.get_flag(arg.name).then(|| "true".to_owned()).into_iter().collect(),
                _ => matches.get_many(arg.name).map(|all| all.cloned().collect()).unwrap_or_default(),
            };
            if !given.is_empty() {
                values.insert(arg.name, given);
            }
        }
        let values = Values(values);
        let template = match self.instead {
            Some((name, path)) if values.find(name).is_some() => path,
            _ => self.path,
        };
        let mut path = path::fill(template, &values)?;
        let mut separator = '?';
        for (name, key) in self.query {
            if let Some(value) = values.find(name) {
                path.extend([separator]);
                path.push_str(key);
                path.push('=');
                path.push_str(&path::encode(value));
                separator = '&';
            }
        }
        Ok(Call { method: self.method, path, body: (self.body)(&values)? })
    }

    /// Every name that the row uses is an argument of it.
    #[cfg(test)]
    pub(super) fn check(&self) -> Result<()> {
        let paths = [Some(self.path), self.instead.map(|(_, path)| path)];
        let known = |name: &str| self.args.iter().any(|arg| arg.name == name);
        for name in paths.into_iter().flatten().flat_map(path::names) {
            if !known(path::argument_of(name)) {
                anyhow::bail!("{{{name}}} is no argument");
            }
        }
        for name in self.query.iter().map(|(name, _)| name).chain(self.instead.iter().map(|(name, _)| name)) {
            if !known(name) {
                anyhow::bail!("{name} is no argument");
            }
        }
        Ok(())
    }
}
