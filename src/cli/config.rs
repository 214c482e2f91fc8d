//! `hedgerow config`.

use std::process::ExitCode;

use clap::Args;

use super::Common;

/// Arguments.
#[derive(Args)]
pub struct Config {
    /// Check the settings in force instead of printing the defaults: file, environment and options together
    #[arg(long)]
    check: bool,
}

impl Config {
    /// Prints the manual, or checks.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        if self.check {
            let config = common.load()?;
            println!("The settings are good. Data folder: {}", config.data.folder.display());
        } else {
            print!("{}", hedgerow_connectors::config::DEFAULT_FILE);
        }
        Ok(ExitCode::SUCCESS)
    }
}
