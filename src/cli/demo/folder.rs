//! The demo's folder: settings, rules, data and the server's own words, all kept.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The rules of `examples/farm` and one of the demo's own, so that it needs nothing but the binary.
const RULES: [(&str, &str); 3] = [
    ("farm.sql", include_str!("../../../examples/farm/farm.sql")),
    ("archive.json", include_str!("../../../examples/farm/archive.json")),
    ("silence.sql", include_str!("silence.sql")),
];

/// Ports are looked for from here, below the ports that systems give to outgoing connections: the server must find its
/// own free again after a crash.
const MQTT_PORTS: u16 = 18_830;
const HTTP_PORTS: u16 = 18_080;
/// So many are tried.
const PORTS: u16 = 200;

/// Where a demo keeps everything.
pub struct Folder {
    path: PathBuf,
    /// An earlier demo was found here, and left alone.
    pub earlier: Option<PathBuf>,
}

impl Folder {
    /// Prepares the folder at `path`, or a numbered one inside it when an earlier demo is there.
    pub fn prepare(path: &Path) -> anyhow::Result<Self> {
        let wanted = std::path::absolute(path)?;
        let (path, earlier) = if is_free(&wanted)? {
            (wanted, None)
        } else if settings_of(&wanted).exists() {
            let mut fresh = None;
            for number in 2..10_000 {
                let inside = wanted.join(format!("demo-{number}"));
                if is_free(&inside)? {
                    fresh = Some(inside);
                    break;
                }
            }
            (fresh.with_context(|| format!("{} is full of demos", wanted.display()))?, Some(wanted))
        } else {
            bail!("{} is not empty and holds no demo; name another folder with --data", wanted.display());
        };
        let folder = Self { path, earlier };
        folder.write().with_context(|| folder.path.display().to_string())?;
        Ok(folder)
    }

    fn write(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.rules())?;
        for (name, text) in RULES {
            std::fs::write(self.rules().join(name), text)?;
        }
        let mqtt = free_port(MQTT_PORTS)?;
        let http = free_port(HTTP_PORTS)?;
        let settings = format!(
            "# The settings of a Hedgerow demo; `hedgerow config` explains all there are.\n\n\
             [data]\nfolder = {data}\n\n\
             [gateway]\nlisten = \"{mqtt}\"\n\n\
             [http]\nlisten = \"{http}\"\n\n\
             [rules]\nfolder = {rules}\n\n\
             [lake]\n# Short, so that DuckDB and others see rows soon.\nroll_age = \"5s\"\n",
            data = quoted(&self.data())?,
            rules = quoted(&self.rules())?,
        );
        std::fs::write(self.settings(), settings)?;
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings of the server.
    pub fn settings(&self) -> PathBuf {
        settings_of(&self.path)
    }

    /// The rules it follows.
    pub fn rules(&self) -> PathBuf {
        self.path.join("rules")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// What it says of itself.
    pub fn server_log(&self) -> PathBuf {
        self.path.join("server.log")
    }
}

fn settings_of(folder: &Path) -> PathBuf {
    folder.join("hedgerow.toml")
}

fn is_free(folder: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| folder.display().to_string()),
    }
}

/// A path as TOML text: a JSON string is one, too.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(serde_json::to_string(text)?)
}

/// The first free port from `first` on. Demos that start together begin at different ones.
fn free_port(first: u16) -> anyhow::Result<SocketAddr> {
    let turn = u16::try_from(std::process::id() % u32::from(PORTS))?;
    (0..PORTS)
        .map(|step| SocketAddr::from((Ipv4Addr::LOCALHOST, first + (turn + step) % PORTS)))
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| format!("none of the ports {first} to {} is free", first + PORTS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_demo_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("farm");
        let first = Folder::prepare(&path).unwrap();
        assert_eq!((first.path(), first.earlier.is_none()), (path.as_path(), true));
        std::fs::write(first.data().with_extension("kept"), "x").unwrap();
        let second = Folder::prepare(&path).unwrap();
        assert_eq!(second.path(), path.join("demo-2"));
        assert_eq!(second.earlier.as_deref(), Some(path.as_path()));
        assert_eq!(Folder::prepare(&path).unwrap().path(), path.join("demo-3"));
        assert!(first.data().with_extension("kept").exists());
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("thesis.tex"), "").unwrap();
        assert!(Folder::prepare(place.path()).is_err());
    }

    #[test]
    fn the_settings_are_good_ones() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(&place.path().join("a \"quoted\" place")).unwrap();
        let environment = Default::default();
        let config = hedgerow_connectors::config::Config::load(Some(&folder.settings()), &environment).unwrap();
        assert_eq!(config.data.folder, folder.data());
        assert_eq!(config.rules.folder, folder.rules());
        assert_ne!(config.gateway.listen.port(), 0);
    }
}
