//! Tool definitions from the tools' own types.
//!
//! The schemas are plain, for clients that know little of JSON Schema: nothing is referred to,
//! numbers have no Rust formats, anything at all is `{}`, and an optional field is one that may be
//! missing, not null.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// What calling a tool does, for clients that ask people first.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Nothing.
    Reads,
    /// A second call with the same arguments changes nothing more.
    ChangesOnce,
    /// Each call changes something.
    Changes,
}

pub(super) fn definition<Input: JsonSchema, Output: JsonSchema>(
    name: &'static str,
    title: &str,
    description: &'static str,
    effect: Effect,
) -> Tool {
    let hints = ToolAnnotations::new()
        .read_only(matches!(effect, Effect::Reads))
        .destructive(false)
        .idempotent(!matches!(effect, Effect::Changes))
        .open_world(false);
    let input = SchemaSettings::draft2020_12().for_deserialize();
    let output = SchemaSettings::draft2020_12().for_serialize();
    Tool::new(name, description.trim_end(), Arc::new(schema::<Input>(input)))
        .with_title(title)
        .with_raw_output_schema(Arc::new(schema::<Output>(output)))
        .with_annotations(hints)
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> JsonObject {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(plain).transform(&mut schema);
    match schema.to_value() {
        Value::Object(mut object) => {
            object.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
            object.shift_remove("title");
            object.shift_remove("description");
            object
        }
        _ => unreachable!("a struct's schema is an object"),
    }
}

fn plain(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    object.shift_remove("format");
    let required = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    for (name, property) in properties {
        if *property == Value::Bool(true) {
            *property = Value::Object(JsonObject::new());
        }
        if !required.iter().any(|required| required == name) {
            never_null(property);
        }
    }
}

fn never_null(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.shift_remove("default");
    if let Some(values) = object.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
}
