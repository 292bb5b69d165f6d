//! A real Prometheus (Debian's package), with the configuration and the rules that we ship, on one daemon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::process::Process;
use crate::support::wait::until;

/// It ends with this.
pub struct Prometheus {
    base: String,
    _process: Process,
    _ports: Ports,
}

impl Prometheus {
    /// Starts it, and waits until it has scraped `target`.
    pub async fn start(folder: &Folder, target: SocketAddr) -> Self {
        let sample = std::fs::read_to_string(shipped("prometheus.yml")).expect("the sample is there");
        let rules = shipped("hookswitch.rules.yml").display().to_string();
        let mut here = sample.clone();
        for (there, value) in [("15s", "1s"), ("127.0.0.1:9464", &target.to_string()), ("hookswitch.rules.yml", &rules)]
        {
            assert!(here.contains(there), "{there} is not in {sample}");
            here = here.replace(there, value);
        }
        let ports = Ports::take();
        let address = ports.address(0);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.write("prometheus.yml", here).display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn").env("GOMAXPROCS", "1");
        let mut process = Process::start("prometheus", &mut command, &folder.join("prometheus.log"));
        until("Prometheus is ready", async || {
            process.assert_runs();
            // It listens before it can answer, and says 503 until then.
            let answer = reqwest::get(format!("http://{address}/-/ready")).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        let base = format!("http://{address}/api/v1");
        let prometheus = Self { base, _process: process, _ports: ports };
        until("Prometheus has scraped the daemon", async || {
            let up = prometheus.query("up{job=\"hookswitch\"} == 1").await.expect("it is valid");
            (!up.is_empty()).then_some(())
        })
        .await;
        prometheus
    }

    /// What an expression gives now: each series' labels, and its value; or what is wrong with it.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let answer = self.get(&format!("query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC))).await;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"]));
        }
        let series = answer["data"]["result"].as_array().ok_or_else(|| format!("{expression}: {answer}"))?;
        let sample = |series: &Value| {
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
            (series["metric"].clone(), value.unwrap_or(f64::NAN))
        };
        Ok(series.iter().map(sample).collect())
    }

    /// The rules of `hookswitch.rules.yml` as it has read them.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("rules").await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("{}/{path}", self.base)).await.expect("Prometheus answers");
        answer.json().await.expect("in JSON")
    }
}

/// Where a file of `monitoring/` is.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}
