//! Checks the parameters of actions against their table.

use crate::ast::Span;
use crate::parse::{Extract, Json, JsonKind, Member};
use crate::suggest;

use super::action_table::{ALIASES, Parameter, Shape};
use super::actions::{self, Parameters};
use super::calls::{self, Place};

use Shape::{Array, Bool, FixedWord, Object, Template, Text, Texts, Url, Word};

impl Parameters<'_> {
    /// Checks the parameters of an action against their table.
    pub(super) fn check(&mut self, shapes: &'static [Parameter]) {
        let place = self.action.to_owned();
        self.members_of(self.members, shapes, self.head, &place);
        if self.action == "iotSiteWise" {
            self.check_site_entries();
        }
    }

    fn members_of(&mut self, members: &[Member], shapes: &[Parameter], head: Span, of: &str) {
        let standard = |name: &str| {
            let alias = ALIASES.iter().find(|(action, written, _)| *action == self.action && *written == name);
            alias.map_or_else(|| name.to_owned(), |(_, _, meant)| (*meant).to_owned())
        };
        let names: Vec<String> = members.iter().map(|member| standard(&member.name)).collect();
        for (member, name) in members.iter().zip(&names) {
            match shapes.iter().find(|parameter| parameter.name == name) {
                Some(parameter) => self.shape(&member.value, name, parameter.shape),
                None => {
                    let known: Vec<&str> = shapes.iter().map(|parameter| parameter.name).collect();
                    let near = suggest::did_you_mean(name, known.iter().copied());
                    let help = near.unwrap_or_else(|| format!("known here: {}", known.join(", ")));
                    let message = format!("`{of}` has no parameter `{name}`");
                    self.reader.error("parameter", member.name_span, message, Some(help));
                }
            }
        }
        for parameter in shapes.iter().filter(|parameter| parameter.required) {
            if !names.iter().any(|name| name == parameter.name) {
                let message = format!("`{of}` needs \"{}\"", parameter.name);
                let help = format!("add \"{}\": {}", parameter.name, parameter.shape.example());
                self.reader.error("parameter", head, message, Some(help));
            }
        }
    }

    fn shape(&mut self, value: &Json, name: &str, shape: Shape) {
        match (shape, &value.kind) {
            (_, JsonKind::Bad) => {}
            (Template, JsonKind::String(text)) => {
                self.compile(text);
            }
            (Text, JsonKind::String(text)) => {
                if text.text.contains("${") {
                    let message = format!("\"{name}\" takes no `${{…}}`");
                    self.reader.error("parameter", value.span, message, Some("write the text itself".into()));
                }
            }
            (Word(words) | FixedWord(words), JsonKind::String(text)) => {
                if matches!(shape, Word(_)) && text.text.contains("${") {
                    self.compile(text);
                } else {
                    self.one_of(name, value, &text.text, words);
                }
            }
            (Url, JsonKind::String(text)) => {
                self.compile(text);
                let scheme = text.text.split("${").next().unwrap_or_default();
                if !scheme.is_empty() && !scheme.starts_with("https://") && !scheme.starts_with("http://") {
                    let message = format!("\"{name}\" is no URL");
                    self.reader.error("parameter", value.span, message, Some("it begins with https://".into()));
                }
            }
            (Bool, JsonKind::Bool(_)) => {}
            (Object(shapes), JsonKind::Object(members)) => self.members_of(members, shapes, value.span, name),
            (Array(shapes, most), JsonKind::Array(items)) => {
                if items.len() > most {
                    let message = format!("\"{name}\" has {} entries, and may have {most}", items.len());
                    self.reader.error("parameter", value.span, message, None);
                }
                for item in items {
                    match &item.kind {
                        JsonKind::Object(members) => self.members_of(members, shapes, item.span, name),
                        _ => self.reader.expected(name, "an array of objects", item),
                    }
                }
            }
            (Texts, JsonKind::Object(members)) => {
                for member in members {
                    self.shape(&member.value, &member.name, Template);
                }
            }
            (shape, _) => self.reader.expected(name, shape.noun(), value),
        }
    }

    /// Reads a template, and checks what it calls. Those of an action that is carried out are checked with its rule.
    fn compile(&mut self, text: &Extract) {
        if actions::is_supported(self.action) {
            return;
        }
        let template = self.read_template(text);
        let place = Place {
            dialect: self.dialect,
            filter: self.filter,
            no_aggregates: Some("templates have one message each"),
            external: calls::External::Allowed,
        };
        template.exprs().for_each(|expr| calls::check(expr, place, &mut self.reader.out));
    }

    /// A property is named by its alias, or by its asset and its own id.
    fn check_site_entries(&mut self) {
        let Some(JsonKind::Array(entries)) = self.get("putAssetPropertyValueEntries").map(|value| &value.kind) else {
            return;
        };
        let mut wrong = Vec::new();
        for entry in entries {
            let JsonKind::Object(members) = &entry.kind else { continue };
            let has = |name: &str| members.iter().any(|member| member.name == name);
            if has("propertyAlias") == (has("assetId") && has("propertyId")) {
                wrong.push(entry.span);
            }
        }
        for span in wrong {
            let message = "an entry names its property by \"propertyAlias\", or by \"assetId\" and \"propertyId\"";
            self.reader.error("parameter", span, message.into(), None);
        }
    }
}
