//! Whether a rule's calls can be made here: told when it is applied, as far as its text says whom it calls.

use hedgerow_sql::ast::Span;
use hedgerow_sql::diagnostic::Diagnostic;
use hedgerow_sql::program::Call;
use hedgerow_sql::rule::{Action, Rule, Target};

use super::config::find;
use crate::config::Config;

/// The calls of a rule that these settings do not allow.
pub fn check(config: &Config, rule: &Rule) -> Vec<Diagnostic> {
    let calls = rule.calls().into_iter().filter_map(|call| check_call(config, &rule.name, &call));
    calls
        .chain(rule.actions.iter().chain(&rule.error_action).flat_map(|action| check_secrets(config, rule, action)))
        .collect()
}

/// The secrets that an action sends along.
fn check_secrets(config: &Config, rule: &Rule, action: &Action) -> Vec<Diagnostic> {
    let Target::Outside(outside) = &action.target else { return Vec::new() };
    let secrets = outside.parameters.iter().flat_map(|parameter| parameter.secrets());
    secrets.filter_map(|secret| check_secret(config, &rule.name, &secret.id, action.span)).collect()
}

fn check_secret(config: &Config, rule: &str, name: &str, span: Span) -> Option<Diagnostic> {
    if !config.grants.allow(rule, name) {
        let message = format!("the rule {rule} may not read the secret {name:?}");
        let help = format!("add to the config: [grants] {rule} = [\"{name}\"]");
        return Some(Diagnostic::error("call", span, message).help(help));
    }
    let error = config.secrets.resolve(name).err()?;
    Some(Diagnostic::error("call", span, error.to_string()))
}

fn check_call(config: &Config, rule: &str, call: &Call<'_>) -> Option<Diagnostic> {
    let name = call.text(0)?;
    let span = call.args.first().map_or(call.expr.span, |arg| arg.span);
    let nowhere = |section: &str, example: &str| {
        let message = format!("the settings do not say where {name:?} is");
        let help = format!("add to the config: [{section}] \"{name}\" = {{ url = \"{example}\" }}");
        Diagnostic::error("call", span, message).help(help)
    };
    match &**call.function {
        "aws_lambda" => {
            find(&config.lambdas.0, name).is_none().then(|| nowhere("lambdas", "https://functions.example.com/enrich"))
        }
        "machinelearning_predict" => find(&config.predictors.0, name)
            .is_none()
            .then(|| nowhere("predictors", "https://models.example.com/predict")),
        "get_secret" => check_secret(config, rule, name, span),
        _ => None,
    }
}
