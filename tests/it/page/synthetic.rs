//! A plan of 500 images, 5,000 layers and 2 million files, made of a small real one. Names are as long and as hostile as names get.

use serde_json::{Value, json};
use unaufs::ids::Sha256;
use unaufs::plan::Plan;

fn hex(text: String) -> String {
    Sha256::of(text.as_bytes()).hex()
}

/// The large plan.
pub fn large(small: &Plan) -> Plan {
    let mut doc = serde_json::to_value(small).expect("JSON");
    let layer = doc["layers"][0].clone();
    // 20 bases of 50 layers, on each of which 25 images with 8 layers of their own stand; the rest are containers'
    let mut layers: Vec<Value> = Vec::new();
    let mut images: Vec<Value> = Vec::new();
    let push = |layers: &mut Vec<Value>, name: String, lowers: Vec<String>, role: &str, bytes: u64| -> Vec<String> {
        let id = hex(name);
        let mut l = layer.clone();
        l["id"] = id.clone().into();
        l["lowers"] = json!(lowers);
        l["role"] = role.into();
        l["source"] = format!("aufs/diff/{id}").into();
        l["facts"]["bytes"] = bytes.into();
        l["facts"]["allocated"] = bytes.into();
        l["facts"]["files"] = 400.into();
        layers.push(l);
        let mut stack = vec![id];
        stack.extend(lowers);
        stack
    };
    let mut tops = Vec::new();
    for base in 0..20u64 {
        let mut stack: Vec<String> = Vec::new();
        for n in 0..50 {
            let bytes = (base * 37 + n * 13) % 97 * 400_000 + 20_000;
            stack = push(&mut layers, format!("base {base} {n}"), stack, "image", bytes);
        }
        for image in 0..25u64 {
            let mut own = stack.clone();
            let mut unique = 0;
            for n in 0..6 {
                let bytes = (base * 7 + image * 31 + n * 3) % 53 * 300_000 + 4096;
                unique += bytes;
                own = push(&mut layers, format!("image {base} {image} {n}"), own, "image", bytes);
            }
            let shared: u64 = 50 * 20_000_000;
            let mut list = own.clone();
            list.reverse();
            images.push(json!({
                "id": format!("sha256:{}", hex(format!("config {base} {image}"))),
                "tags": [name(base, image)], "digests": [],
                "bytes_total": unique + shared, "bytes_unique": unique, "bytes_shared": shared, "layers": list,
            }));
            tops.push(own);
        }
    }
    let mut containers = Vec::new();
    for (n, top) in tops.iter().enumerate() {
        let init = push(&mut layers, format!("init {n}"), top.clone(), "init", 300);
        let own = push(&mut layers, format!("container {n}"), init.clone(), "container", n as u64 * 50_000);
        containers.push(json!({
            "id": hex(format!("container {n}")), "name": format!("{}-{n}", "worker".repeat(1 + n % 9)), "image": "app",
            "running": n % 3 == 0, "layer": own[0], "init": init[0], "bytes": n * 50_000, "files": [],
        }));
    }
    layers.sort_by_key(|l| l["lowers"].as_array().map(Vec::len));
    let mut checks = doc["checks"].as_array().cloned().expect("checks");
    for n in 0..1500 {
        let id = ["D02", "L03", "D01", "C03", "L01"][n % 5];
        checks.push(json!({
            "id": id, "level": if n % 5 == 4 { "info" } else { "warn" },
            "subject": {"kind": "layer", "id": &hex(format!("image 0 0 {n}"))[..12]},
            "message": format!("character device 0:0: /{}", "very-long-name-without-a-break".repeat(6)),
            "effect": "left out",
        }));
    }
    for id in ["H07", "H05"] {
        checks.push(json!({"id": id, "level": "block", "subject": {"kind": "other", "name": "/etc/docker/daemon.json"},
            "message": "it pins the driver aufs", "fix": "remove the line, or set \"storage-driver\": \"overlay2\"", "effect": "Docker does not start"}));
    }
    let left: Vec<Value> = (0..900)
        .map(|n| {
            json!({"kind": "image", "id": format!("sha256:{}", hex(format!("left {n}"))), "name": name(n, 3),
            "reason": "the layer 0123456789ab below it is damaged", "lost": "nothing", "counts": true})
        })
        .collect();
    let bytes: u64 = layers.iter().filter_map(|l| l["facts"]["bytes"].as_u64()).sum();
    doc["summary"] = json!({"images": images.len(), "tags": images.len(), "layers": layers.len(), "containers": containers.len(),
        "volumes": 240, "bytes": bytes, "writable_bytes": bytes / 9, "files": layers.len() * 400});
    doc["root"]["room"]["free_bytes"] = (bytes / 2).into();
    for (n, e) in doc["estimates"].as_array_mut().expect("estimates").iter_mut().enumerate() {
        e["new_bytes"] = (bytes / 12 * (n as u64 + 1)).into();
        e["new_inodes"] = (2_000_000 / (n + 1)).into();
        e["fits"] = (n < 5).into();
    }
    doc["images"] = images.into();
    doc["layers"] = layers.into();
    doc["containers"] = containers.into();
    doc["left_behind"] = left.into();
    doc["checks"] = checks.into();
    doc["metadata"] = json!([]);
    doc["host"]["name"] = "node-with-a-rather-long-name-17.rack4.example.org".into();
    serde_json::from_value(doc).expect("a plan")
}

/// Names of strangers: markup, control characters, other scripts, no place to break.
fn name(base: u64, n: u64) -> String {
    match n {
        0 => format!("<script>alert({base})</script>:1"),
        1 => format!("\"><img src=x onerror=alert({base})>:latest"),
        2 => format!("registry.example.org:5000/{}/{}:1.{base}", "team".repeat(20), "service".repeat(12)),
        3 => format!("\u{202e}gpj.\u{1b}[31mapp/{base}:x"),
        4 => format!("レジストリ/アプリ{base}:最新"),
        _ => format!("registry.example.org/team-{base}/service-{n}:2.{n}.{base}"),
    }
}
