//! `magnetar admin NOUN VERB`: the nouns and verbs of pulsar-admin, over the admin REST of any broker, ours or Pulsar's.
//!
//! Called by: the command line. Must never know: how a broker answers; a verb is a row of a table that names a method, a
//! path and a body, and the answer is printed as it comes.

mod call;
mod convert;
mod output;
mod path;
mod verb;
mod verbs;

use clap::{ArgMatches, Command, FromArgMatches};

use self::call::Call;
pub(crate) use self::output::Output;
use self::verb::Verb;

/// What was asked for, ready to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    /// For messages, e.g. "topics stats".
    what: String,
    call: Call,
}

impl Request {
    /// Sends the request to the broker at `base` (e.g. `http://127.0.0.1:8080`), follows it to the broker that owns what
    /// it is about, and gives the text to print. Blocks. Not retried: the caller decides whether to ask again.
    pub(crate) fn run(&self, base: &str, output: Output) -> anyhow::Result<String> {
        let answer = self.call.send(base).map_err(|error| error.context(self.what.clone()))?;
        Ok(output.text(&answer))
    }
}

impl clap::Subcommand for Request {
    fn augment_subcommands(command: Command) -> Command {
        verbs::NOUNS.iter().fold(command.subcommand_required(true), |command, (noun, about, verbs)| {
            let verbs = verbs.iter().copied().flatten().map(Verb::command);
            command.subcommand(
                Command::new(*noun)
                    .about(*about)
                    .subcommand_required(true)
                    .arg_required_else_help(true)
                    .subcommands(verbs),
            )
        })
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        verbs::NOUNS.iter().any(|(noun, ..)| *noun == name)
    }
}

impl FromArgMatches for Request {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        use clap::error::ErrorKind;
        let missing = || clap::Error::raw(ErrorKind::MissingSubcommand, "a noun and a verb are needed");
        let (noun, of_noun) = matches.subcommand().ok_or_else(missing)?;
        let (name, of_verb) = of_noun.subcommand().ok_or_else(missing)?;
        let verb = verbs::find(noun, name).ok_or_else(missing)?;
        let what = format!("{noun} {name}");
        let call = verb
            .call(of_verb)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("{what}: {error}")))?;
        Ok(Request { what, call })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Subcommand;

    use super::*;

    fn call(line: &str) -> Result<String, clap::Error> {
        let command = Request::augment_subcommands(Command::new("admin"));
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        Request::from_arg_matches(&matches).map(|request| request.call.to_string())
    }

    #[test]
    fn the_table_of_verbs_is_consistent() {
        Request::augment_subcommands(Command::new("admin")).debug_assert();
        for (noun, _, verbs) in verbs::NOUNS {
            for verb in verbs.iter().copied().flatten() {
                verb.check().unwrap_or_else(|error| panic!("{noun} {}: {error}", verb.name));
            }
        }
    }

    #[test]
    fn a_verb_is_the_request_that_pulsar_admin_makes() {
        for (line, request) in [
            ("admin brokers list standalone", "GET /admin/v2/brokers/standalone"),
            ("admin topics stats t", "GET /admin/v2/persistent/public/default/t/stats"),
            ("admin topics stats a/b/x%2Fy", "GET /admin/v2/persistent/a/b/x%252Fy/stats"),
            ("admin topics unload non-persistent://a/b/c", "PUT /admin/v2/non-persistent/a/b/c/unload"),
            (
                "admin topics create-partitioned-topic t -p 3",
                "PUT /admin/v2/persistent/public/default/t/partitions 3",
            ),
            ("admin topics delete t --force", "DELETE /admin/v2/persistent/public/default/t?force=true"),
            ("admin topics lookup t", "GET /lookup/v2/topic/persistent/public/default/t"),
            (
                "admin topics reset-cursor t -s a/b -t 2m --now 1000000",
                "POST /admin/v2/persistent/public/default/t/subscription/a%2Fb/resetcursor/880000",
            ),
            ("admin namespaces create a/b", "PUT /admin/v2/namespaces/a/b"),
            (
                "admin namespaces set-retention a/b --size 1G --time 3h",
                r#"POST /admin/v2/namespaces/a/b/retention {"retentionSizeInMB":1024,"retentionTimeInMinutes":180}"#,
            ),
            (
                "admin tenants create acme --allowed-clusters x,y -r me",
                r#"PUT /admin/v2/tenants/acme {"adminRoles":["me"],"allowedClusters":["x","y"]}"#,
            ),
            (
                "admin namespaces unload a/b --bundle 0x00000000_0x40000000",
                "PUT /admin/v2/namespaces/a/b/0x00000000_0x40000000/unload",
            ),
            ("admin namespaces unload a/b", "PUT /admin/v2/namespaces/a/b/unload"),
        ] {
            assert_eq!(call(line).unwrap_or_else(|error| panic!("{line}: {error}")), request, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        for (line, reason) in [
            ("admin topics stats a/b", "persistent://tenant/namespace/topic"),
            ("admin namespaces create justone", "tenant/namespace"),
            ("admin topics create-partitioned-topic t -p many", "many"),
            ("admin namespaces set-retention a/b --size big --time 1h", "big"),
        ] {
            let error = call(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
