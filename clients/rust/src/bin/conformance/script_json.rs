//! The script's JSON to messages, and messages to the script's JSON.
//!
//! It is protobuf's own JSON (ids are texts there, too) but for two things: enum values come
//! without their prefix, and durations are numbers with _seconds at the end of their names.

use std::{error::Error, sync::LazyLock};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    SerializeOptions,
};
use serde_json::{Map, Value};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let protos = include_bytes!(concat!(env!("OUT_DIR"), "/swarm.bin"));
    DescriptorPool::decode(protos.as_slice()).expect("build.rs wrote them")
});

type Rename = fn(&EnumDescriptor, &str) -> String;

/// A message from the members of an object.
pub fn read<M: Message + Name + Default>(values: &Value) -> Result<M, Box<dyn Error>> {
    let kind = descriptor::<M>()?;
    let json = translate(values, &kind, |kind, name| prefix(kind) + name)?;
    Ok(DynamicMessage::deserialize(kind, json)?.transcode_to()?)
}

/// Those members of an object that have these names.
pub fn members(values: &Value, names: &[&str]) -> Value {
    let chosen = names
        .iter()
        .filter_map(|&name| Some((name.to_owned(), values.get(name)?.clone())));
    Value::Object(chosen.collect())
}

/// A message with all its fields.
pub fn write<M: Message + Name>(message: &M) -> Result<Value, Box<dyn Error>> {
    let kind = descriptor::<M>()?;
    let mut dynamic = DynamicMessage::new(kind.clone());
    dynamic.transcode_from(message)?;
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .use_proto_field_name(true);
    let json = dynamic.serialize_with_options(serde_json::value::Serializer, &options)?;
    translate(&json, &kind, |kind, name| {
        name.replacen(&prefix(kind), "", 1)
    })
}

/// Where a result is not what is wanted.
pub fn difference(wanted: &Value, got: &Value, place: &str) -> Option<String> {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => wanted.iter().find_map(|(name, value)| {
            let dot = if place.is_empty() { "" } else { "." };
            let found = got.get(name).unwrap_or(&Value::Null);
            difference(value, found, &format!("{place}{dot}{name}"))
        }),
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            let pairs = wanted.iter().zip(got).enumerate();
            pairs
                .map(|(at, (wanted, got))| difference(wanted, got, &format!("{place}[{at}]")))
                .find_map(|found| found)
        }
        _ if wanted == got => None,
        _ => Some(format!("{place} is {got}, not {wanted}")),
    }
}

fn descriptor<M: Name>() -> Result<MessageDescriptor, Box<dyn Error>> {
    let name = M::full_name();
    let found = POOL.get_message_by_name(&name);
    found.ok_or_else(|| format!("there is no message {name}").into())
}

fn translate(
    values: &Value,
    kind: &MessageDescriptor,
    rename: Rename,
) -> Result<Value, Box<dyn Error>> {
    let values = values
        .as_object()
        .ok_or_else(|| format!("{values} is no object"))?;
    let mut translated = Map::new();
    for (name, value) in values {
        let field = kind.get_field_by_name(name);
        let (name, value) = match (field, name.strip_suffix("_seconds")) {
            (Some(field), _) => (name.as_str(), translate_field(value, &field, rename)?),
            (None, Some(name)) => (name, Value::String(format!("{value}s"))),
            (None, None) => (name.as_str(), value.clone()),
        };
        translated.insert(name.to_owned(), value);
    }
    Ok(Value::Object(translated))
}

fn translate_field(
    value: &Value,
    field: &FieldDescriptor,
    rename: Rename,
) -> Result<Value, Box<dyn Error>> {
    match (field.kind(), value) {
        (_, Value::Array(items)) => {
            let items = items
                .iter()
                .map(|item| translate_field(item, field, rename));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        (Kind::Enum(kind), Value::String(name)) => Ok(Value::String(rename(&kind, name))),
        (Kind::Message(kind), Value::Object(_)) if !field.is_map() => {
            translate(value, &kind, rename)
        }
        _ => Ok(value.clone()),
    }
}

/// `TASK_STATUS_`, for each enum's value of 0 is `PREFIX_UNSPECIFIED`.
fn prefix(kind: &EnumDescriptor) -> String {
    kind.default_value().name().replace("UNSPECIFIED", "")
}
