//! Args: JSON into serde types, raw bytes, and files that come with or instead of options.

use crate::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What a handler may take as its first argument: any `Deserialize` type (args are JSON), [`Raw`] or [`WithFile`].
pub trait FromArgs: Sized {
    /// Reads a job's args.
    ///
    /// # Errors
    /// A discard that names the field and what is wrong with it.
    fn from_args(args: Vec<u8>) -> Result<Self, Failure>;
}

impl<T: DeserializeOwned> FromArgs for T {
    fn from_args(args: Vec<u8>) -> Result<Self, Failure> {
        let mut json = serde_json::Deserializer::from_slice(&args);
        let value = serde_path_to_error::deserialize(&mut json).map_err(wrong_args)?;
        json.end().map_err(|error| Failure::discard(format_args!("args are not JSON: {error}")))?;
        Ok(value)
    }
}

/// The bytes themselves, as args or as output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl FromArgs for Raw {
    fn from_args(args: Vec<u8>) -> Result<Self, Failure> {
        Ok(Raw(args))
    }
}

/// A file with options, or one of them alone.
///
/// Args that are one JSON object are options: `file_base64` and `file_name` in it are the file, the other fields are `T`.
/// Anything else is the file itself, and the options are the default. This is what a job gets whose line in a list has
/// `args_file`: with `args` beside it the object, else the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithFile<T> {
    /// What the file contains; `None` if the args are options without `file_base64`.
    pub file: Option<Vec<u8>>,
    /// The file's name, without folders, where it is known.
    pub name: Option<String>,
    /// The other fields.
    pub options: T,
}

impl<T: DeserializeOwned + Default> FromArgs for WithFile<T> {
    fn from_args(args: Vec<u8>) -> Result<Self, Failure> {
        // Only a brace can begin an object; a picture is not even looked at.
        let is_object_maybe = args.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let object = if is_object_maybe { serde_json::from_slice(&args).ok() } else { None };
        let Some(Value::Object(mut object)) = object else {
            return Ok(WithFile { file: Some(args), name: None, options: T::default() });
        };
        let file = object.remove("file_base64").map(|value| field::<Base64>("file_base64", value)).transpose()?;
        let name = object.remove("file_name").map(|value| field::<String>("file_name", value)).transpose()?;
        let options = serde_path_to_error::deserialize(Value::Object(object)).map_err(wrong_args)?;
        Ok(WithFile { file: file.map(|file| file.0), name, options })
    }
}

/// Bytes inside of JSON: a string in standard Base64, with padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            STANDARD.decode(text).map_err(|error| serde::de::Error::custom(format_args!("not Base64: {error}")))?;
        Ok(Base64(bytes))
    }
}

fn field<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::discard(format_args!("args do not fit: `{name}`: {error}")))
}

fn wrong_args(error: serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let (path, error) = (error.path().to_string(), error.inner());
    match (error.is_syntax() || error.is_eof(), path.as_str()) {
        (true, _) => Failure::discard(format_args!("args are not JSON: {error}")),
        (false, ".") => Failure::discard(format_args!("args do not fit: {error}")),
        (false, path) => Failure::discard(format_args!("args do not fit: `{path}`: {error}")),
    }
}
