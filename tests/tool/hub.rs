//! Models by their names: from a hub that runs in the test, from what was fetched before, after a connection that broke.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use semisep::mamba2::checkpoint::Checkpoint;
use tempfile::{TempDir, tempdir};

use crate::files::{bits, golden, open};
use crate::support::succeeds;

const COMMIT: &str = "0123abcd";

/// A hub with one repository, `owner/tiny`, and a diary of what it was asked for.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

/// How a hub sends the files of its repository.
struct Shelf {
    files: BTreeMap<String, Vec<u8>>,
    /// A file whose first transfer breaks off, and after how many bytes.
    breaks: Mutex<Option<(String, usize)>>,
}

impl Hub {
    /// Serves files until the test ends.
    fn start(files: BTreeMap<String, Vec<u8>>, breaks: Option<(&str, usize)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let diary = Arc::clone(&asked);
        let breaks = Mutex::new(breaks.map(|(file, bytes)| (file.to_owned(), bytes)));
        let shelf = Shelf { files, breaks };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client may leave at any time.
                let _ = shelf.answer(stream.unwrap(), &diary);
            }
        });
        Self { address, asked }
    }

    /// What was asked for with contents, and from which byte on.
    fn asked(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn tool(&self, home: &TempDir, arguments: &[&str]) -> Output {
        tool(&self.address, home, arguments)
    }
}

impl Shelf {
    /// One request, by the paths and headers of the hub's interface.
    fn answer(&self, mut stream: TcpStream, diary: &Mutex<Vec<(String, u64)>>) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = None;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if let Some(asked) = line.strip_prefix("range: bytes=") {
                range = asked.split_once('-').map(|(from, to)| (from.parse::<u64>().unwrap(), to.to_owned()));
            }
            if line.is_empty() {
                break;
            }
        }
        if path == "/api/models/owner/tiny/revision/main" {
            let names: Vec<_> = self.files.keys().map(|f| serde_json::json!({"rfilename": f})).collect();
            let body = serde_json::json!({"sha": COMMIT, "siblings": names}).to_string();
            let length = body.len();
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
        let file = path.strip_prefix("/owner/tiny/resolve/main/").unwrap_or_default();
        let (Some(bytes), Some((from, to))) = (self.files.get(file), range) else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
        };
        let size = bytes.len();
        let end = to.parse().map_or(size, |last: usize| last + 1);
        let part = &bytes[from as usize..end];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nconnection: close\r\ncontent-length: {}\r\n\
             content-range: bytes {from}-{}/{size}\r\netag: \"{file}-tag\"\r\nx-repo-commit: {COMMIT}\r\n\r\n",
            part.len(),
            end - 1,
        )?;
        let mut sent = part;
        if to.is_empty() {
            diary.lock().unwrap().push((file.to_owned(), from));
            if let Some((_, most)) = self.breaks.lock().unwrap().take_if(|(broken, _)| broken == file) {
                sent = &part[..most];
            }
        }
        stream.write_all(sent)
    }
}

fn tool(address: &str, home: &TempDir, arguments: &[&str]) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_semisep"));
    tool.env("HF_HOME", home.path()).env("HF_ENDPOINT", address).env_remove("HF_HUB_CACHE");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        tool.env_remove(name); // the server is in this process
    }
    tool.args(arguments).output().unwrap()
}

/// The files of a reference model that a repository has.
fn repository(model: &str, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|&name| (name.to_owned(), std::fs::read(golden(model).join(name)).unwrap())).collect()
}

fn whole(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Exit status 2, nothing printed, an error that holds the words.
fn refused(output: &Output, words: &[&str]) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "no {word} in {complaint}");
    }
}

fn inspected(model: &Path) -> String {
    succeeds(&["inspect", model.to_str().unwrap()])
}

fn fetched(home: &TempDir) -> Checkpoint {
    open(&home.path().join("hub/models--owner--tiny/snapshots").join(COMMIT))
}

#[test]
fn a_model_is_fetched_once() {
    for (model, weights) in
        [("model_tiny", "model.safetensors"), ("model_original_layout", "pytorch_model.bin")]
    {
        let home = tempdir().unwrap();
        let mut files = repository(model, &["config.json", weights]);
        files.insert("README.md".to_owned(), b"not wanted".to_vec());
        let hub = Hub::start(files, None);
        let first = hub.tool(&home, &["inspect", "owner/tiny"]);
        assert_eq!(whole(&first), inspected(&golden(model)));
        let asked = hub.asked();
        assert_eq!(asked, [("config.json".to_owned(), 0), (weights.to_owned(), 0)]);
        assert_eq!(whole(&hub.tool(&home, &["inspect", "owner/tiny"])), inspected(&golden(model)));
        assert_eq!(hub.asked(), [], "what is there is not fetched again");
        let there = open(&golden(model)).model::<f32>().unwrap();
        assert_eq!(bits(&fetched(&home).model().unwrap()), bits(&there));
    }
}

#[test]
fn a_model_in_shards_is_fetched_shard_by_shard() {
    let folder = tempdir().unwrap();
    let sharded = folder.path().join("sharded");
    let model = golden("model_tiny");
    let (from, to) = (model.to_str().unwrap(), sharded.to_str().unwrap());
    succeeds(&["convert", from, to, "--layout", "hf", "--shard-size", "20KB"]);
    let names: Vec<_> =
        sharded.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() > 4, "{names:?}");
    let files = names.iter().map(|name| (name.clone(), std::fs::read(sharded.join(name)).unwrap())).collect();
    let (hub, home) = (Hub::start(files, None), tempdir().unwrap());
    assert_eq!(whole(&hub.tool(&home, &["inspect", "owner/tiny"])), inspected(&sharded));
}

#[test]
fn a_broken_transfer_is_an_error_and_goes_on_where_it_broke() {
    const SENT: usize = 10_000;
    let (home, weights) = (tempdir().unwrap(), "model.safetensors");
    let hub = Hub::start(repository("model_tiny", &["config.json", weights]), Some((weights, SENT)));
    refused(&hub.tool(&home, &["inspect", "owner/tiny"]), &["owner/tiny", weights]);
    hub.asked();
    assert_eq!(whole(&hub.tool(&home, &["inspect", "owner/tiny"])), inspected(&golden("model_tiny")));
    assert_eq!(hub.asked(), [(weights.to_owned(), SENT as u64)]);
    let there = open(&golden("model_tiny")).model::<f32>().unwrap();
    assert_eq!(bits(&fetched(&home).model().unwrap()), bits(&there));
}

#[test]
fn repositories_without_a_model_are_errors() {
    let home = tempdir().unwrap();
    let hub = Hub::start(repository("model_tiny", &["config.json"]), None);
    refused(&hub.tool(&home, &["inspect", "owner/tiny"]), &["owner/tiny", "no weights"]);
    refused(&hub.tool(&home, &["inspect", "owner/none"]), &["owner/none", "config.json"]);
    let hub = Hub::start(repository("model_tiny", &["model.safetensors"]), None);
    refused(&hub.tool(&tempdir().unwrap(), &["inspect", "owner/tiny"]), &["owner/tiny", "config.json"]);
}

/// A folder in which the hub's programs keep what they have downloaded, and no hub.
#[test]
fn a_model_in_the_cache_of_the_hub_needs_no_hub() {
    let home = tempdir().unwrap();
    let model = home.path().join("hub/models--owner--tiny");
    let (refs, snapshot) = (model.join("refs"), model.join("snapshots").join(COMMIT));
    std::fs::create_dir_all(&refs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(refs.join("main"), COMMIT).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("model_tiny").join(file), snapshot.join(file)).unwrap();
    }
    let inspect = |name| tool("http://127.0.0.1:1", &home, &["inspect", name]);
    assert_eq!(whole(&inspect("owner/tiny")), inspected(&golden("model_tiny")));
    refused(&inspect("owner/other"), &["owner/other"]);
}
