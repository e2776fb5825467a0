//! Secrets from files: where a flag's value must not be seen, `RUNNER_X_FILE` may name the file that has what `RUNNER_X`
//! would be, as containers are given theirs.

use std::path::Path;

use clap::{Arg, Command};

use super::Source;
use crate::cli::exit::Failure;
use crate::operator;

/// The command with those secrets as defaults that files say.
pub(super) fn with_files(mut command: Command) -> Result<Command, Failure> {
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for name in names {
        let verb = command.find_subcommand(&name).cloned().unwrap_or_default();
        let verb = with_files(verb)?;
        command = command.mut_subcommand(&name, |_| verb);
    }
    let secrets: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_hide_env_values_set()).cloned().collect();
    for arg in secrets {
        if let Some(text) = read(&arg)? {
            command = command.mut_arg(arg.get_id().as_str(), |arg| arg.required(false).default_value(text));
        }
    }
    Ok(command)
}

/// Where a secret comes from, if it is from a file.
pub(super) fn source(arg: &Arg) -> Option<Source> {
    let name = file_variable(arg)?;
    std::env::var_os(&name).map(|_| Source::Environment(name))
}

fn file_variable(arg: &Arg) -> Option<String> {
    let name = arg.get_env().filter(|_| arg.is_hide_env_values_set())?;
    Some(format!("{}_FILE", name.to_string_lossy()))
}

fn read(arg: &Arg) -> Result<Option<String>, Failure> {
    let (Some(variable), Some(plain)) = (file_variable(arg), arg.get_env()) else { return Ok(None) };
    let Some(path) = std::env::var_os(&variable) else { return Ok(None) };
    if std::env::var_os(plain).is_some() {
        let plain = plain.to_string_lossy();
        return Err(Failure::usage(format!("{plain} and {variable} are both set; keep one")));
    }
    let path = Path::new(&path);
    let secret = operator::read_secret(path);
    secret
        .map(Some)
        .map_err(|error| Failure::usage(format!("{variable}: `{}` cannot be read: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_not_be_seen_comes_from_a_file() {
        let plain = Arg::new("listen").long("listen").env("RUNNER_LISTEN");
        assert_eq!(file_variable(&plain), None);
        let secret = Arg::new("token").long("token").env("RUNNER_TEST_SECRET").hide_env_values(true);
        assert_eq!(file_variable(&secret).as_deref(), Some("RUNNER_TEST_SECRET_FILE"));
        assert_eq!(read(&secret), Ok(None));
    }
}
