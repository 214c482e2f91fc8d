//! Calls: does the function exist in this dialect, and does it take so many arguments?

use crate::ast::{Dialect, Expr, ExprKind, Span};
use crate::diagnostic::Diagnostic;
use crate::functions::{self, Purity};
use crate::rule::AggregateFunction;
use crate::suggest;
use crate::topic::TopicFilter;
use crate::value::Value;

/// What surrounds an expression.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub dialect: Dialect,
    /// The rule's topic filter, for `topic(n)`.
    pub filter: Option<&'a TopicFilter>,
    /// Why an aggregate cannot stand here; `None` where it can.
    pub no_aggregates: Option<&'static str>,
    /// May functions that ask other systems stand here?
    pub external: External,
}

/// Whether functions that ask other systems may stand in a place.
#[derive(Clone, Copy)]
pub(super) enum External {
    /// All of them: a test brings the answers.
    Stubbed,
    /// Those that this version has.
    Allowed,
    /// None, for this reason and with this advice.
    Refused(&'static str, &'static str),
}

/// Why windows take no answers of other systems.
pub(super) const IN_WINDOW: External = External::Refused(
    "a window cannot depend on what another system answers: a replay must give the same rows",
    "let one rule make the call and write INTO TOPIC 'x/…', and another one aggregate over 'x/#'",
);
/// Why error actions take none.
pub(super) const IN_ERROR_ACTION: External =
    External::Refused("an error action cannot ask another system", "name what it needs in the rule's own actions");

/// The aggregate of that name.
pub(super) fn aggregate(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        _ => return None,
    })
}

/// Checks the calls of an expression, wherever they stand in it.
pub(super) fn check(expr: &Expr, place: Place<'_>, out: &mut Vec<Diagnostic>) {
    if let ExprKind::Call { function, args } = &expr.kind {
        call(expr, function, args, place, out);
    }
    expr.for_each_child(|child| check(child, place, out));
}

fn call(expr: &Expr, name: &str, args: &[Expr], place: Place<'_>, out: &mut Vec<Diagnostic>) {
    let span = name_span(expr, name);
    if aggregate(name).is_some() && place.dialect == Dialect::Native {
        check_aggregate(expr, name, args, place, out);
        return;
    }
    let Some(function) = functions::lookup(name) else {
        out.push(unknown(name, span, args, place.dialect));
        return;
    };
    if !function.is_in(place.dialect) {
        let (message, help) = if place.dialect == Dialect::Aws2015 && function.is_in(Dialect::Aws2016) {
            let message = format!("{name} needs the SQL version 2016-03-23");
            (message, "add \"awsIotSqlVersion\": \"2016-03-23\" to the rule; without it, 2015-10-08 applies")
        } else {
            let message = format!("{name} is part of Hedgerow's own rule files (.sql), not of AWS rules");
            (message, "use get_or_default(x, y), or write the rule as a .sql file")
        };
        out.push(Diagnostic::error("version", span, message).help(help));
    }
    if !function.takes(args.len()) {
        let message = format!("{name} takes {}, not {}", arguments(function.arity), args.len());
        let whole = Span { start: span.start, end: expr.span.end };
        // AWS lets such a call pass; its value is Undefined.
        out.push(if place.dialect == Dialect::Native {
            Diagnostic::error("arity", whole, message)
        } else {
            Diagnostic::warning("arity", whole, format!("{message}: this is always Undefined"))
        });
    }
    if function.purity == Purity::External {
        external(expr, name, args, span, place, out);
    }
    if name == "topic" {
        check_level(expr, args, place, out);
    }
}

/// Where functions that ask other systems may stand, and what must be plain from the text.
fn external(expr: &Expr, name: &str, args: &[Expr], span: Span, place: Place<'_>, out: &mut Vec<Diagnostic>) {
    match place.external {
        External::Stubbed => return,
        External::Refused(reason, help) => {
            out.push(Diagnostic::error("external", span, format!("{name}: {reason}")).help(help));
            return;
        }
        External::Allowed => {}
    }
    let what = match name {
        "get_thing_shadow" => "device shadows come with a later version",
        "get_registry_data" => "there is no device registry",
        "get_dynamodb" if !matches!(args.first().map(|arg| &arg.kind), Some(ExprKind::Literal(Value::String(_)))) => {
            let message = "the table of get_dynamodb must be named in the rule itself";
            let help = "write its name in quotes; tables that rules look up keep their history for it";
            let span = args.first().map_or(expr.span, |arg| arg.span);
            out.push(Diagnostic::error("lookup", span, message).help(help));
            return;
        }
        _ => return,
    };
    let message = format!("{name} is not available in this version: {what}");
    out.push(Diagnostic::error("not-available", span, message));
}

/// The place of the function's name.
fn name_span(expr: &Expr, name: &str) -> Span {
    Span { start: expr.span.start, end: (expr.span.start + name.len()).min(expr.span.end) }
}

fn arguments((low, high): (usize, usize)) -> String {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    match (low, high) {
        (0, 0) => "no arguments".into(),
        (low, high) if low == high => format!("{low} {}", plural(low)),
        (low, usize::MAX) => format!("at least {low} {}", plural(low)),
        (low, high) if low + 1 == high => format!("{low} or {high} arguments"),
        (low, high) => format!("{low} to {high} arguments"),
    }
}

fn unknown(name: &str, span: Span, args: &[Expr], dialect: Dialect) -> Diagnostic {
    let message = format!("there is no function {name}");
    let diagnostic = Diagnostic::error("unknown-function", span, message);
    if matches!(name, "window_start" | "window_end") && args.is_empty() && dialect == Dialect::Native {
        return diagnostic.help(format!("write {name} without parentheses"));
    }
    let meant = match name {
        "now" | "current_timestamp" | "unix_timestamp" => Some("timestamp() is the time of receipt in milliseconds"),
        "ifnull" | "nvl" if dialect == Dialect::Native => Some("use coalesce(x, y)"),
        "ifnull" | "nvl" | "coalesce" => Some("use get_or_default(x, y), or CASE"),
        "len" | "char_length" => Some("use length(x)"),
        "substr" => Some("use substring(text, start, end); positions count from 0, the end is not included"),
        "if" | "iif" => Some("use CASE WHEN x THEN y ELSE z END"),
        "uuid" => Some("use newuuid()"),
        "pow" => Some("use power(x, y)"),
        "ceiling" => Some("use ceil(x)"),
        "count" | "sum" | "avg" | "min" | "max" => Some("aggregates over windows are part of .sql rule files"),
        "stddev" | "median" | "first" | "last" | "first_value" | "last_value" | "array_agg" | "variance"
            if dialect == Dialect::Native =>
        {
            Some("the aggregates are count, sum, avg, min and max")
        }
        _ => None,
    };
    if let Some(meant) = meant {
        return diagnostic.help(meant);
    }
    let known = functions::all().filter(|function| function.is_in(dialect)).map(|function| function.name);
    let aggregates = ["count", "sum", "avg", "min", "max"];
    let aggregates = aggregates.into_iter().filter(|_| dialect == Dialect::Native);
    diagnostic.maybe_help(suggest::nearest(name, known.chain(aggregates)).map(|near| format!("did you mean {near}?")))
}

fn check_aggregate(expr: &Expr, name: &str, args: &[Expr], place: Place<'_>, out: &mut Vec<Diagnostic>) {
    let span = name_span(expr, name);
    if let Some(reason) = place.no_aggregates {
        let message = format!("{name} is an aggregate: {reason}");
        let help = "group by a window: GROUP BY topic(2), tumble(INTERVAL '10 seconds')";
        let diagnostic = Diagnostic::error("aggregate", span, message);
        out.push(if reason == NO_WINDOW { diagnostic.help(help) } else { diagnostic });
    }
    match args {
        [Expr { kind: ExprKind::Star, span: star }] if name != "count" => {
            let message = format!("{name} needs a number, not the whole payload");
            out.push(Diagnostic::error("arity", *star, message).help(format!("write {name}(temperature)")));
        }
        [_] => {}
        _ => {
            let help = if name == "count" { "count(*) counts messages, count(x) those that have x" } else { "" };
            let message = format!("{name} takes 1 argument, not {}", args.len());
            let diagnostic = Diagnostic::error("arity", expr.span, message);
            out.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
        }
    }
}

/// Why aggregates cannot stand in a rule without a window.
pub(super) const NO_WINDOW: &str = "it needs a window to work on";

/// `topic(n)`: levels count from 1, and the filter may have fewer.
fn check_level(expr: &Expr, args: &[Expr], place: Place<'_>, out: &mut Vec<Diagnostic>) {
    let [Expr { kind: ExprKind::Literal(Value::Int(level)), .. }] = args else { return };
    if *level < 1 {
        let message = "levels of a topic count from 1: this is always Undefined";
        out.push(Diagnostic::warning("topic-level", expr.span, message).help("the first level is topic(1)"));
    } else if let Some(filter) = place.filter
        && let Some(levels) = filter.max_levels()
        && usize::try_from(*level).map_or(true, |level| level > levels)
    {
        let message = format!("topics that match '{filter}' have {levels} levels: this is always Undefined");
        out.push(Diagnostic::warning("topic-level", expr.span, message));
    }
}
