//! The schemas of the document, each under its name.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::bounds;
use crate::limits::ApiLimits;

/// The place of schemas in the document.
const PLACE: &str = "#/components/schemas/";

/// The schemas that were named so far.
pub(super) struct Schemas {
    /// Of the parameters, as they are read.
    read: SchemaGenerator,
    /// Of the answers, as they are written.
    written: SchemaGenerator,
    /// Of no type.
    others: Map<String, Value>,
    /// The names of the schemas of parameters.
    params: Vec<String>,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = PLACE.trim_start_matches('#').into();
        });
        Self {
            read: settings.clone().for_deserialize().into_generator(),
            written: settings.for_serialize().into_generator(),
            others: Map::new(),
            params: Vec::new(),
        }
    }
}

impl Schemas {
    /// The schema of the parameters of a method.
    pub(super) fn params<T: JsonSchema>(&mut self) -> Value {
        self.params.push(T::schema_name().into_owned());
        self.read.subschema_for::<T>().to_value()
    }

    /// The schema of an answer, or of a part of one.
    pub(super) fn answer<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// Adds a schema that no type has.
    pub(super) fn add(&mut self, name: &str, schema: Value) -> Value {
        self.others.insert(name.to_owned(), schema);
        named(name)
    }

    /// All schemas, with their bounds.
    pub(super) fn finish(mut self, limits: &ApiLimits) -> Value {
        let mut all = self.read.take_definitions(true);
        let mut written = self.written.take_definitions(true);
        written.values_mut().for_each(without_null);
        all.append(&mut written);
        all.append(&mut self.others);
        for (name, bounds) in bounds::of(limits) {
            let schema = all.get_mut(name).expect("bounds are of a schema");
            merge(schema, bounds);
        }
        for (name, schema) in &mut all {
            without_wrong_defaults(schema);
            if self.params.contains(name) {
                with_null(schema);
            }
        }
        Value::Object(all)
    }
}

/// The reference to a schema of this name.
pub(super) fn named(name: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{name}") })
}

/// Adds members to a schema, and to the objects in it.
fn merge(schema: &mut Value, more: Value) {
    match (schema, more) {
        (Value::Object(members), Value::Object(more)) => {
            for (name, value) in more {
                merge(members.entry(name).or_insert(Value::Null), value);
            }
        }
        (schema, more) => *schema = more,
    }
}

/// The names of the members that are given, or one of which is.
fn required(schema: &Value) -> BTreeSet<String> {
    let any = schema.get("anyOf").and_then(Value::as_array);
    let all = any.into_iter().flatten().chain([schema]);
    let names = all.filter_map(|schema| schema.get("required")?.as_array());
    let names = names.flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// The members of a schema, by name.
fn members(schema: &mut Value) -> impl Iterator<Item = (&String, &mut Map<String, Value>)> {
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    let members = members.into_iter().flatten();
    members.filter_map(|(name, member)| Some((name, member.as_object_mut()?)))
}

/// Takes out the defaults of members that are not to be left out.
fn without_wrong_defaults(schema: &mut Value) {
    let required = required(schema);
    for (name, member) in members(schema) {
        if required.contains(name) {
            member.remove("default");
        }
    }
}

/// Says that each member that may be left out may be `null`, as [`Call::parse`] has it.
///
/// [`Call::parse`]: crate::api::Call::parse
fn with_null(schema: &mut Value) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| {
        let names = required.as_array().into_iter().flatten();
        names.into_iter().any(|other| other == name)
    };
    for (_, member) in members(schema).filter(|(name, _)| !is_required(name)) {
        if let Some(of @ Value::String(_)) = member.get_mut("type") {
            *of = json!([of, "null"]);
        }
    }
}

/// Takes `null` out of what is left out instead.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|of| of != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = members.get_mut("anyOf") {
                any.retain(|of| of["type"] != "null");
            }
            members.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
