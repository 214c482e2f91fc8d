//! Lowering: expressions to DataFusion's physical expressions over Arrow columns, where both mean exactly the same.
//!
//! An expression becomes a [`Term`](term::Term) once, when its rule is compiled. For rows whose sources have certain
//! kinds a [`Plan`](plan::Plan) is made and kept: Arrow's decimals where digits and scales prove that results are
//! exact, numbers with scales of their own where they do not, texts, comparisons, logic as the dialect has it. What has
//! no plan for some kinds (arrays, nested queries, choices between kinds) is left to the scalar evaluator, which is the
//! reference for all of this. No value can make a plan fail. This module knows columns and shreds, not rules.

mod build;
mod cache;
mod calls;
mod kernel;
mod kinds;
mod logic;
mod plan;
mod resolve;
mod run;
mod source;
mod term;

pub(crate) use cache::Cache;
pub(crate) use resolve::Resolver;
pub(crate) use run::{Batch, Found, TermSet, truth};
pub(crate) use source::text_of;
pub(crate) use term::{Comparison, Logic, Source, Term};
