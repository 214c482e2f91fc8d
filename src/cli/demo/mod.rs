//! `hedgerow demo`: the whole of Hedgerow on a simulated farm, with a crash in the middle and a count at the end.
//!
//! The demo is a user like any other: it starts the server as a process, publishes over MQTT and asks over HTTP. It knows
//! nothing of the server's insides.

mod audit;
mod child;
mod device;
mod farm;
mod folder;
mod progress;
mod silence;
mod tally;
mod tour;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use self::audit::{integers, rows};
use self::child::Server;
use self::farm::Farm;
use self::folder::Folder;
use self::progress::{Progress, Rows};
use self::tally::Verdict;
use super::{Common, runtime};

/// Where a demo goes without `--data`.
const FOLDER: &str = "hedgerow-demo";
/// How long the farm publishes before the crash, and after it.
const HALF: Duration = Duration::from_secs(8);
/// How long devices may take to get their last acknowledgements.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the sinks may take to get the last records.
const SETTLE: Duration = Duration::from_secs(10);
/// `--once` gives up then.
const ONCE: Duration = Duration::from_secs(40);
/// What can only be said between a crash and a start.
const GONE: &str = "the server does not run";
/// How long the crash waits for a moment with messages on their way.
const UNDER_LOAD: Duration = Duration::from_secs(2);
/// Between looks.
const STEP: Duration = Duration::from_millis(100);
/// Between counts of rows for the progress line.
const COUNT: Duration = Duration::from_secs(1);

/// Arguments.
#[derive(Args)]
#[command(after_help = "\
    Starts a server of its own with the rules of examples/farm, lets sensors and sprinklers publish over MQTT, kills the \
    server with SIGKILL under load, starts it again, and counts: everything acknowledged is logged, and everything logged \
    is exactly once in the lake and the tables. A sprinkler that falls silent before the crash is noticed at its time, \
    once. Then it goes on until Ctrl-C, for you to look around.\n\n\
    Everything stays in ./hedgerow-demo, or in the folder that --data names. --config has no effect.")]
pub struct Demo {
    /// How many sensors there are; there is a sprinkler for every five besides
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=5000))]
    devices: u16,
    /// Messages a second, all devices together
    #[arg(long, default_value_t = 200, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// End after the count, within 45 seconds; exit code 0 if nothing is lost and nothing doubled
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Runs until Ctrl-C, or with `--once` until the count.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let folder = Folder::prepare(common.data.as_deref().unwrap_or(Path::new(FOLDER)))?;
        let runtime = runtime()?;
        let (ending, good) = runtime.block_on(async {
            let mut stage = Stage { folder: &folder, progress: Progress::new(), server: None, good: true };
            let ending = tokio::select! {
                played = self.play(&mut stage) => played,
                signal = asked_to_stop() => signal.map_err(anyhow::Error::from),
                () = tokio::time::sleep(ONCE), if self.once => {
                    stage.kill().await;
                    Err(anyhow::anyhow!("the demo did not get to its end in {} seconds", ONCE.as_secs()))
                }
            };
            stage.close().await;
            (ending, stage.good)
        });
        // Devices that still connect are nobody's to wait for.
        runtime.shutdown_background();
        ending?;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    async fn play(&self, stage: &mut Stage<'_>) -> anyhow::Result<()> {
        stage.announce();
        stage.start().await?;
        let farm = Farm::start(stage.server()?.mqtt, usize::from(self.devices), f64::from(self.rate));
        stage.progress.say(format!(
            "{} sensors and {} sprinklers publish {} messages a second, QoS 1; some leave and come back, some crash, \
             and one falls silent.",
            farm.sensors, farm.sprinklers, self.rate
        ));
        stage.watch(&farm, HALF - silence::BEFORE_THE_CRASH).await?;
        let silent = farm.silence_one();
        stage.watch(&farm, silence::BEFORE_THE_CRASH).await?;
        stage.crash(&farm).await?;
        stage.watch(&farm, HALF).await?;
        // At a lower rate sprinklers are silent between their messages.
        if f64::from(self.rate) / (farm.sensors + farm.sprinklers) as f64 >= 1.0 {
            stage.notice(silent).await?;
        }
        stage.count(&farm).await?;
        let server = stage.server.as_ref().context(GONE)?;
        tour::questions(server, &mut stage.progress).await?;
        tour::to_paste(server, stage.folder, &mut stage.progress)?;
        if self.once {
            return Ok(());
        }
        farm.set_publishing(true);
        stage.progress.say("\nThe farm goes on until Ctrl-C.");
        stage.watch(&farm, Duration::MAX).await
    }
}

/// What the play needs around it. The server is here and not in the play, so that it is stopped however the play ends.
struct Stage<'a> {
    folder: &'a Folder,
    progress: Progress,
    server: Option<Server>,
    /// Nothing has been found lost or doubled.
    good: bool,
}

impl Stage<'_> {
    fn announce(&mut self) {
        let path = self.folder.path().display();
        match &self.folder.earlier {
            None => self.progress.say(format!("Everything goes to {path} and stays there.")),
            Some(earlier) => self.progress.say(format!(
                "{} holds an earlier demo and is left alone; this one goes to {path} and stays there.",
                earlier.display()
            )),
        }
        self.progress.say(format!(
            "Rules: {}\nServer's log: {}",
            self.folder.rules().display(),
            self.folder.server_log().display()
        ));
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        let server = Server::start(self.folder).await?;
        self.progress.say(format!(
            "The server is process {}, ready after {:.1} s: mqtt {}, http http://{}",
            server.pid(),
            since.elapsed().as_secs_f64(),
            server.mqtt,
            server.http
        ));
        self.server = Some(server);
        Ok(())
    }

    fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context(GONE)
    }

    /// Shows progress for this long.
    async fn watch(&mut self, farm: &Farm, duration: Duration) -> anyhow::Result<()> {
        let since = Instant::now();
        let client = self.server()?.client.clone();
        // Counts have a task of their own, so that a slow answer does not hold the line.
        let (counted, counts) = tokio::sync::watch::channel(Rows::new());
        let counting = async {
            loop {
                if let Ok(rows) = count_rows(&client).await {
                    counted.send_replace(rows);
                }
                tokio::time::sleep(COUNT).await;
            }
        };
        let showing = async {
            while since.elapsed() < duration {
                tokio::time::sleep(STEP).await;
                self.server.as_mut().context(GONE)?.check()?;
                if self.progress.is_due() {
                    self.progress.show(farm, &counts.borrow());
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            shown = showing => shown,
            () = counting => Ok(()),
        }
    }

    /// Kills the server while messages are on their way, and starts it again.
    async fn crash(&mut self, farm: &Farm) -> anyhow::Result<()> {
        let mut server = self.server.take().context(GONE)?;
        server.check()?;
        let pid = server.pid();
        // At a gentle rate there are moments with hardly a message on its way: not now.
        let load = (farm.sensors / 8).max(2) as u64;
        let since = Instant::now();
        while farm.figures().on_their_way() < load && since.elapsed() < UNDER_LOAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().await?;
        let waiting = farm.figures().on_their_way();
        self.progress.say(format!("kill -9 {pid}, under load: {waiting} messages have no acknowledgement yet."));
        self.start().await
    }

    /// The sprinkler that fell silent has been noticed, once.
    async fn notice(&mut self, silent: usize) -> anyhow::Result<()> {
        let notice = silence::notice(&self.server()?.client, silent).await?;
        self.good &= notice.is_good();
        self.progress.say(notice.told(silent));
        Ok(())
    }

    /// Lets everything arrive, and compares.
    async fn count(&mut self, farm: &Farm) -> anyhow::Result<()> {
        farm.set_publishing(false);
        self.progress.say("The farm pauses. Waiting for the last acknowledgements, and for the lake.");
        let since = Instant::now();
        while farm.figures().on_their_way() > 0 {
            self.server.as_mut().context(GONE)?.check()?;
            if since.elapsed() > DRAIN {
                bail!("{} messages were not acknowledged in {DRAIN:?}", farm.figures().on_their_way());
            }
            tokio::time::sleep(STEP).await;
        }
        let client = self.server()?.client.clone();
        if !audit::settle(&client, SETTLE).await? {
            self.progress.say(format!("Not everything has arrived within {SETTLE:?}."));
        }
        let evidence = audit::gather(&client).await?;
        let verdict = tally::compare(&farm.acknowledged(), &evidence);
        self.good &= verdict.is_good();
        self.report(farm, &verdict);
        Ok(())
    }

    fn report(&mut self, farm: &Farm, verdict: &Verdict) {
        let figures = farm.figures();
        let head = ["place", "should have", "has", "lost", "doubled"].map(str::to_owned);
        let cells = verdict.checks.iter().map(|check| {
            vec![check.place.to_owned(), check.found.to_string(), check.lost.to_string(), check.doubled.to_string()]
        });
        self.progress.say(format!("\n{}", super::table::render(&head, &cells.collect::<Vec<_>>()).trim_end()));
        self.progress.say(format!(
            "acknowledged {}, logged {}, in the lake {}, lost {}, doubled {}",
            verdict.acknowledged,
            verdict.logged,
            verdict.in_lake,
            verdict.lost(),
            verdict.doubled()
        ));
        self.progress.say(format!(
            "\nThe server crashed once, devices crashed {} times, and {} times a device left and came back.\n\
             Devices sent {} messages again that had no acknowledgement. {} of them had been logged before the crash, \
             and are logged twice, as QoS 1 allows.",
            figures.crashes, figures.leaves, figures.sent_again, verdict.resent
        ));
        if !verdict.is_good() {
            self.progress
                .say("This is not as it should be. Please keep the folder: `hedgerow log inspect` shows its log.");
        }
    }

    /// Stops the server in order, unless another signal asks for haste.
    async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            self.progress.say("\nStopping the server.");
            // Left to itself, a server is killed.
            tokio::select! {
                stopped = server.stop() => if let Err(error) = stopped {
                    self.progress.say(format!("The server did not stop in order: {error}"));
                },
                _ = asked_to_stop() => {}
            }
        }
        self.progress.say(format!("Everything is still in {}", self.folder.path().display()));
    }

    async fn kill(&mut self) {
        if let Some(server) = self.server.take()
            && let Err(error) = server.kill().await
        {
            self.progress.say(format!("The server could not be killed: {error}"));
        }
    }
}

/// Rows of each sink now.
async fn count_rows(client: &hedgerow_connectors::http::client::Client) -> anyhow::Result<Rows> {
    const PLACES: [&str; 5] = ["farm_lake", "farm_archive", "sensor_data", "archive", "averages"];
    let selects = PLACES.map(|place| format!("(SELECT count(*) FROM {place}) AS {place}"));
    let found = rows(client, &format!("SELECT {}", selects.join(", "))).await?;
    let counts: [i64; PLACES.len()] = integers(found.first().context("no counts")?)?;
    Ok(PLACES.into_iter().zip(counts).collect())
}

/// Ctrl-C, or another wish that the demo end.
async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
