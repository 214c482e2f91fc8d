//! The dataflow of Hedgerow: steps of epochs through timely workers to sinks.
