//! What a namespace asks of new schemas.

/// `schemaCompatibilityStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nothing may follow the first schema.
    AlwaysIncompatible,
    /// Anything may.
    AlwaysCompatible,
    /// The new schema reads what the last one wrote.
    Backward,
    /// The last schema reads what the new one writes.
    Forward,
    /// Both.
    #[default]
    Full,
    /// The new schema reads what any earlier one wrote.
    BackwardTransitive,
    /// Every earlier schema reads what the new one writes.
    ForwardTransitive,
    /// Both.
    FullTransitive,
}

impl Strategy {
    /// By Pulsar's name of it, or the older one of the 'auto update' policy. Unknown and `UNDEFINED`: the default.
    pub fn parse(name: &str) -> Strategy {
        match name {
            "ALWAYS_INCOMPATIBLE" | "AutoUpdateDisabled" => Strategy::AlwaysIncompatible,
            "ALWAYS_COMPATIBLE" | "AlwaysCompatible" => Strategy::AlwaysCompatible,
            "BACKWARD" | "Backward" => Strategy::Backward,
            "FORWARD" | "Forward" => Strategy::Forward,
            "BACKWARD_TRANSITIVE" | "BackwardTransitive" => Strategy::BackwardTransitive,
            "FORWARD_TRANSITIVE" | "ForwardTransitive" => Strategy::ForwardTransitive,
            "FULL_TRANSITIVE" | "FullTransitive" => Strategy::FullTransitive,
            _ => Strategy::Full,
        }
    }

    /// Pulsar's name.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::AlwaysIncompatible => "ALWAYS_INCOMPATIBLE",
            Strategy::AlwaysCompatible => "ALWAYS_COMPATIBLE",
            Strategy::Backward => "BACKWARD",
            Strategy::Forward => "FORWARD",
            Strategy::Full => "FULL",
            Strategy::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Strategy::ForwardTransitive => "FORWARD_TRANSITIVE",
            Strategy::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    pub(super) fn is_transitive(self) -> bool {
        matches!(self, Strategy::BackwardTransitive | Strategy::ForwardTransitive | Strategy::FullTransitive)
    }

    pub(super) fn reads_backward(self) -> bool {
        matches!(
            self,
            Strategy::Backward | Strategy::BackwardTransitive | Strategy::Full | Strategy::FullTransitive
        )
    }

    pub(super) fn reads_forward(self) -> bool {
        matches!(
            self,
            Strategy::Forward | Strategy::ForwardTransitive | Strategy::Full | Strategy::FullTransitive
        )
    }
}

/// Everything that decides about a new schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub strategy: Strategy,
    /// Producers may bring new schemas; otherwise only operators may.
    pub auto_update: bool,
    /// A producer without schema is refused on a topic that has one.
    pub enforced: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { strategy: Strategy::default(), auto_update: true, enforced: false }
    }
}
