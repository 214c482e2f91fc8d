//! `hedgerow serve`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use hedgerow_connectors::config::LogFormat;
use hedgerow_connectors::serve::Server;
use tracing_subscriber::EnvFilter;

use super::{Common, runtime};

/// Arguments.
#[derive(Args)]
pub struct Serve {
    /// Address of the MQTT listener, instead of the setting gateway.listen
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<std::net::SocketAddr>,
    /// Address of the HTTP API, instead of the setting http.listen
    #[arg(long, value_name = "ADDRESS")]
    http: Option<std::net::SocketAddr>,
    /// Rules folder, instead of the setting rules.folder
    #[arg(long, value_name = "FOLDER")]
    rules: Option<std::path::PathBuf>,
    /// Stop when standard input ends: for a server that must not outlive the program that started it
    #[arg(long)]
    until_eof: bool,
}

impl Serve {
    /// Serves until a signal asks to stop.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let mut config = common.load()?;
        if let Some(mqtt) = self.mqtt {
            config.gateway.listen = mqtt;
        }
        if let Some(http) = self.http {
            config.http.listen = http;
        }
        if let Some(rules) = &self.rules {
            config.rules.folder.clone_from(rules);
        }
        init_logging(&config.logging.level, config.logging.format)?;
        runtime()?.block_on(async {
            let input = self.until_eof.then(end_of_input);
            let server = Server::start(config).await?;
            println!("mqtt {}", server.mqtt_address());
            println!("http http://{}", server.http_address());
            println!("token {}", server.token_file().display());
            match input {
                Some(ended) => tokio::select! {
                    signal = stop_signal() => signal?,
                    _ = ended => {}
                },
                None => stop_signal().await?,
            }
            tracing::info!("stopping; a second signal stops at once");
            tokio::select! {
                () = server.stop() => {}
                signal = stop_signal() => signal?,
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn init_logging(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // What the libraries beneath tell of their daily work is of no use to an operator, unless asked for.
    let quiet = ["buoyant_kernel", "buoyant_kernel_engine", "deltalake_core", "fjall", "lsm_tree"];
    let mut filter = EnvFilter::try_new(level)?;
    for library in quiet.iter().filter(|library| !level.contains(**library)) {
        filter = filter.add_directive(format!("{library}=warn").parse()?);
    }
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C.
async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

/// Hears when standard input ends. The thread is nobody's to wait for: a read of a terminal cannot be called off.
fn end_of_input() -> tokio::sync::oneshot::Receiver<()> {
    let (ended, hears) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    hears
}
