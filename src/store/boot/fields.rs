//! Which values Docker's fields take: every field of a container's two files that Docker 20.10.24, 26.1.5 or 28.5.2 reads.
//!
//! ```text
//! config.v2.json   container/{container,container_unix,state,health}.go   daemon/network/settings.go   volume/mounts/mounts.go
//! hostconfig.json  api/types/container/hostconfig.go   api/types/mount/mount.go   api/types/blkiodev/blkio.go
//! ```
//!
//! A field that only one of these has counts too, since Docker may be updated after the migration. The base64 of `ImageManifest.data` isn't
//! checked.

use crate::docker::gojson::Raw;
use crate::docker::gotime::Created;
use crate::docker::json;
use crate::error::Result;

/// The shape that a field has in Docker: Go refuses a value of another one, and takes `null` for every one.
pub(super) enum Shape {
    Text,
    Bool,
    /// An integer from one number to another.
    Whole(i128, i128),
    Time,
    /// An array of strings, or one string.
    Words,
    List(&'static Shape),
    /// An array. Go reads so many of its elements, and doesn't look at the others.
    First(usize, &'static Shape),
    Map(&'static Shape),
    Object(&'static [(&'static str, Shape)]),
}
use Shape::{Bool, First, List, Map, Object, Text, Time, Whole, Words};

impl Shape {
    /// Would Go decode this value?
    pub(super) fn accepts(&self, value: Raw<'_>) -> Result<()> {
        match self {
            Text => value.string().map(drop),
            Bool => value.boolean().map(drop),
            Whole(least, most) => value.integer_within(*least, *most).map(drop),
            Time => time(value),
            Words if value.bytes().first() == Some(&b'"') => Ok(()),
            Words => TEXTS.accepts(value),
            List(of) => First(usize::MAX, of).accepts(value),
            First(n, of) => value.elements()?.unwrap_or_default().into_iter().take(*n).try_for_each(|v| of.accepts(v)),
            Map(of) => {
                let members = value.members()?.unwrap_or_default();
                members.into_iter().try_for_each(|(key, v)| of.accepts(v).map_err(|e| e.on(key)))
            }
            Object(fields) => value.members()?.unwrap_or_default().into_iter().try_for_each(|(key, v)| {
                let known = fields.iter().find(|(name, _)| json::is_field(&key, name));
                known.map_or(Ok(()), |(_, shape)| shape.accepts(v)).map_err(|e| e.on(key))
            }),
        }
    }
}

/// Go doesn't decode the escapes of a time before it parses it.
fn time(value: Raw<'_>) -> Result<()> {
    if value.string()?.is_none() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(value.bytes());
    Created::parse(text.trim_matches('"')).map(drop)
}

const INT: Shape = Whole(i64::MIN as i128, i64::MAX as i128);
const INT32: Shape = Whole(i32::MIN as i128, i32::MAX as i128);
const UINT16: Shape = Whole(0, u16::MAX as i128);
const UINT32: Shape = Whole(0, u32::MAX as i128);
const UINT: Shape = Whole(0, u64::MAX as i128);
const TEXTS: Shape = List(&Text);
const TEXT_MAP: Shape = Map(&Text);
const ANY_OBJECT: Shape = Object(&[]);

/// `config.v2.json`.
pub(super) const CONTAINER: Shape = Object(&[
    ("StreamConfig", ANY_OBJECT),
    ("State", STATE),
    ("ID", Text),
    ("Created", Time),
    ("Managed", Bool),
    ("Path", Text),
    ("Args", TEXTS),
    ("Config", CONFIG),
    ("Image", Text),
    ("ImageManifest", MANIFEST),
    ("NetworkSettings", NETWORKS),
    ("LogPath", Text),
    ("Name", Text),
    ("Driver", Text),
    ("OS", Text),
    ("ImagePlatform", PLATFORM),
    ("RestartCount", INT),
    ("HasBeenStartedBefore", Bool),
    ("HasBeenManuallyStopped", Bool),
    ("MountPoints", Map(&MOUNT_POINT)),
    ("SecretReferences", List(&SECRET)),
    ("ConfigReferences", List(&SWARM_CONFIG)),
    ("MountLabel", Text),
    ("ProcessLabel", Text),
    ("AppArmorProfile", Text),
    ("SeccompProfile", Text),
    ("NoNewPrivileges", Bool),
    ("WritableCgroups", Bool),
    ("HostnamePath", Text),
    ("HostsPath", Text),
    ("ShmPath", Text),
    ("ResolvConfPath", Text),
    ("LocalLogCacheMeta", Object(&[("HaveNotifyEnabled", Bool)])),
]);

const STATE: Shape = Object(&[
    ("Running", Bool),
    ("Paused", Bool),
    ("Restarting", Bool),
    ("OOMKilled", Bool),
    ("RemovalInProgress", Bool),
    ("Dead", Bool),
    ("Pid", INT),
    ("ExitCode", INT),
    ("Error", Text),
    ("StartedAt", Time),
    ("FinishedAt", Time),
    ("Health", Object(&[("Status", Text), ("FailingStreak", INT), ("Log", List(&PROBE))])),
]);
const PROBE: Shape = Object(&[("Start", Time), ("End", Time), ("ExitCode", INT), ("Output", Text)]);

const CONFIG: Shape = Object(&[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", Bool),
    ("AttachStdout", Bool),
    ("AttachStderr", Bool),
    ("ExposedPorts", Map(&ANY_OBJECT)),
    ("Tty", Bool),
    ("OpenStdin", Bool),
    ("StdinOnce", Bool),
    ("Env", TEXTS),
    ("Cmd", Words),
    ("Healthcheck", HEALTHCHECK),
    ("ArgsEscaped", Bool),
    ("Image", Text),
    ("Volumes", Map(&ANY_OBJECT)),
    ("WorkingDir", Text),
    ("Entrypoint", Words),
    ("NetworkDisabled", Bool),
    ("MacAddress", Text),
    ("OnBuild", TEXTS),
    ("Labels", TEXT_MAP),
    ("StopSignal", Text),
    ("StopTimeout", INT),
    ("Shell", Words),
]);
const HEALTHCHECK: Shape = Object(&[
    ("Test", TEXTS),
    ("Interval", INT),
    ("Timeout", INT),
    ("StartPeriod", INT),
    ("StartInterval", INT),
    ("Retries", INT),
]);

const MANIFEST: Shape = Object(&[
    ("mediaType", Text),
    ("digest", Text),
    ("size", INT),
    ("urls", TEXTS),
    ("annotations", TEXT_MAP),
    ("platform", PLATFORM),
    ("artifactType", Text),
]);
const PLATFORM: Shape =
    Object(&[("architecture", Text), ("os", Text), ("os.version", Text), ("os.features", TEXTS), ("variant", Text)]);

const NETWORKS: Shape = Object(&[
    ("Bridge", Text),
    ("SandboxID", Text),
    ("SandboxKey", Text),
    ("HairpinMode", Bool),
    ("LinkLocalIPv6Address", Text),
    ("LinkLocalIPv6PrefixLen", INT),
    ("Networks", Map(&ENDPOINT)),
    ("Service", SERVICE),
    ("Ports", PORTS),
    ("SecondaryIPAddresses", List(&ADDRESS)),
    ("SecondaryIPv6Addresses", List(&ADDRESS)),
    ("IsAnonymousEndpoint", Bool),
    ("HasSwarmEndpoint", Bool),
]);
const ADDRESS: Shape = Object(&[("Addr", Text), ("PrefixLen", INT)]);
const PORTS: Shape = Map(&List(&Object(&[("HostIp", Text), ("HostPort", Text)])));
const ENDPOINT: Shape = Object(&[
    ("IPAMConfig", Object(&[("IPv4Address", Text), ("IPv6Address", Text), ("LinkLocalIPs", TEXTS)])),
    ("Links", TEXTS),
    ("Aliases", TEXTS),
    ("MacAddress", Text),
    ("DriverOpts", TEXT_MAP),
    ("GwPriority", INT),
    ("NetworkID", Text),
    ("EndpointID", Text),
    ("Gateway", Text),
    ("IPAddress", Text),
    ("IPPrefixLen", INT),
    ("IPv6Gateway", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", INT),
    ("DNSNames", TEXTS),
    ("IPAMOperational", Bool),
    ("DesiredMacAddress", Text),
]);
const SERVICE: Shape = Object(&[
    ("ID", Text),
    ("Name", Text),
    ("Aliases", Map(&TEXTS)),
    ("VirtualAddresses", Map(&Object(&[("IPv4", Text), ("IPv6", Text)]))),
    ("ExposedPorts", List(&SERVICE_PORT)),
]);
const SERVICE_PORT: Shape =
    Object(&[("Name", Text), ("Protocol", INT32), ("TargetPort", UINT32), ("PublishedPort", UINT32)]);

const SECRET: Shape = Object(&[("File", FILE_TARGET), ("SecretID", Text), ("SecretName", Text)]);
const SWARM_CONFIG: Shape =
    Object(&[("File", FILE_TARGET), ("Runtime", ANY_OBJECT), ("ConfigID", Text), ("ConfigName", Text)]);
const FILE_TARGET: Shape = Object(&[("Name", Text), ("UID", Text), ("GID", Text), ("Mode", UINT32)]);

// Mode is kept as Relabel, and CopyData is not kept
const MOUNT_POINT: Shape = Object(&[
    ("Source", Text),
    ("Destination", Text),
    ("RW", Bool),
    ("Name", Text),
    ("Driver", Text),
    ("Type", Text),
    ("Relabel", Text),
    ("Propagation", Text),
    ("ID", Text),
    ("Spec", MOUNT),
    ("SkipMountpointCreation", Bool),
]);
const MOUNT: Shape = Object(&[
    ("Type", Text),
    ("Source", Text),
    ("Target", Text),
    ("ReadOnly", Bool),
    ("Consistency", Text),
    ("BindOptions", BIND),
    ("VolumeOptions", VOLUME),
    ("ImageOptions", Object(&[("Subpath", Text)])),
    ("TmpfsOptions", Object(&[("SizeBytes", INT), ("Mode", UINT32), ("Options", List(&TEXTS))])),
    ("ClusterOptions", ANY_OBJECT),
]);
const BIND: Shape = Object(&[
    ("Propagation", Text),
    ("NonRecursive", Bool),
    ("CreateMountpoint", Bool),
    ("ReadOnlyNonRecursive", Bool),
    ("ReadOnlyForceRecursive", Bool),
]);
const VOLUME: Shape = Object(&[
    ("NoCopy", Bool),
    ("Labels", TEXT_MAP),
    ("Subpath", Text),
    ("DriverConfig", Object(&[("Name", Text), ("Options", TEXT_MAP)])),
]);

/// `hostconfig.json`.
pub(super) const HOST: Shape = Object(&[
    ("Binds", TEXTS),
    ("ContainerIDFile", Text),
    ("LogConfig", Object(&[("Type", Text), ("Config", TEXT_MAP)])),
    ("NetworkMode", Text),
    ("PortBindings", PORTS),
    ("RestartPolicy", Object(&[("Name", Text), ("MaximumRetryCount", INT)])),
    ("AutoRemove", Bool),
    ("VolumeDriver", Text),
    ("VolumesFrom", TEXTS),
    ("ConsoleSize", First(2, &UINT)),
    ("Annotations", TEXT_MAP),
    ("CapAdd", Words),
    ("CapDrop", Words),
    ("CgroupnsMode", Text),
    ("Dns", TEXTS),
    ("DnsOptions", TEXTS),
    ("DnsSearch", TEXTS),
    ("ExtraHosts", TEXTS),
    ("GroupAdd", TEXTS),
    ("IpcMode", Text),
    ("Cgroup", Text),
    ("Links", TEXTS),
    ("OomScoreAdj", INT),
    ("PidMode", Text),
    ("Privileged", Bool),
    ("PublishAllPorts", Bool),
    ("ReadonlyRootfs", Bool),
    ("SecurityOpt", TEXTS),
    ("StorageOpt", TEXT_MAP),
    ("Tmpfs", TEXT_MAP),
    ("UTSMode", Text),
    ("UsernsMode", Text),
    ("ShmSize", INT),
    ("Sysctls", TEXT_MAP),
    ("Runtime", Text),
    ("Isolation", Text),
    ("CpuShares", INT),
    ("Memory", INT),
    ("NanoCpus", INT),
    ("CgroupParent", Text),
    ("BlkioWeight", UINT16),
    ("BlkioWeightDevice", List(&Object(&[("Path", Text), ("Weight", UINT16)]))),
    ("BlkioDeviceReadBps", RATES),
    ("BlkioDeviceWriteBps", RATES),
    ("BlkioDeviceReadIOps", RATES),
    ("BlkioDeviceWriteIOps", RATES),
    ("CpuPeriod", INT),
    ("CpuQuota", INT),
    ("CpuRealtimePeriod", INT),
    ("CpuRealtimeRuntime", INT),
    ("CpusetCpus", Text),
    ("CpusetMems", Text),
    ("Devices", List(&Object(&[("PathOnHost", Text), ("PathInContainer", Text), ("CgroupPermissions", Text)]))),
    ("DeviceCgroupRules", TEXTS),
    ("DeviceRequests", List(&DEVICE_REQUEST)),
    ("KernelMemory", INT),
    ("KernelMemoryTCP", INT),
    ("MemoryReservation", INT),
    ("MemorySwap", INT),
    ("MemorySwappiness", INT),
    ("OomKillDisable", Bool),
    ("PidsLimit", INT),
    ("Ulimits", List(&Object(&[("Name", Text), ("Hard", INT), ("Soft", INT)]))),
    ("CpuCount", INT),
    ("CpuPercent", INT),
    ("IOMaximumIOps", UINT),
    ("IOMaximumBandwidth", UINT),
    ("Mounts", List(&MOUNT)),
    ("MaskedPaths", TEXTS),
    ("ReadonlyPaths", TEXTS),
    ("Init", Bool),
]);
const RATES: Shape = List(&Object(&[("Path", Text), ("Rate", UINT)]));
const DEVICE_REQUEST: Shape = Object(&[
    ("Driver", Text),
    ("Count", INT),
    ("DeviceIDs", TEXTS),
    ("Capabilities", List(&TEXTS)),
    ("Options", TEXT_MAP),
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::gojson::parse;

    /// What Go did with each: `json.Decoder` with the structs of Docker 20.10.24, 26.1.5 and 28.5.2.
    #[test]
    fn values_are_taken_as_go_takes_them() {
        for (text, taken) in [
            (
                r#"{"Managed":true,"OS":"linux","StreamConfig":{"x":1},"LocalLogCacheMeta":{"HaveNotifyEnabled":false}}"#,
                true,
            ),
            (r#"{"Managed":"x"}"#, false),
            (r#"{"Managed":true,"mANAGED":[null]}"#, false),
            (r#"{"OS":[1]}"#, false),
            (r#"{"StreamConfig":7}"#, false),
            (r#"{"LocalLogCacheMeta":7}"#, false),
            (r#"{"LocalLogCacheMeta":{"HaveNotifyEnabled":"x"}}"#, false),
            (r#"{"SecretReferences":[null,{"File":{"Mode":292},"SecretID":"s"}],"ConfigReferences":null}"#, true),
            (r#"{"SecretReferences":[{"File":{"Mode":-1}}]}"#, false),
            (r#"{"ConfigReferences":"x"}"#, false),
            (
                r#"{"Config":{"Healthcheck":{"Test":["CMD"],"Interval":1,"Retries":3},"StopTimeout":null,"Shell":"sh"}}"#,
                true,
            ),
            (r#"{"Config":{"Healthcheck":7}}"#, false),
            (r#"{"Config":{"Healthcheck":{"Test":"CMD"}}}"#, false),
            (r#"{"Config":{"Healthcheck":{"Interval":"1s"}}}"#, false),
            (r#"{"Config":{"Cmd":["x",null],"Entrypoint":"x","PublishService":1,"Volumes":{"/v":{"x":1}}}}"#, true),
            (r#"{"Config":{"Cmd":[1]}}"#, false),
            (r#"{"Config":{"Shell":1}}"#, false),
            (r#"{"Config":{"StopTimeout":"10"}}"#, false),
            (r#"{"Config":{"Volumes":{"/v":true}}}"#, false),
            (
                r#"{"State":{"Health":{"Status":"healthy","Log":[{"Start":"2020-01-01T00:00:00+02:00","ExitCode":0}]}}}"#,
                true,
            ),
            (r#"{"State":{"Health":{"Log":[{"Start":"yesterday"}]}}}"#, false),
            (r#"{"Created":"2020-01-01T00:00:00\u005a"}"#, false),
            (
                r#"{"NetworkSettings":{"Networks":{"x":null,"bridge":{"IPPrefixLen":16,"Aliases":null,"DriverOpts":{"a":"b"}}}}}"#,
                true,
            ),
            (r#"{"NetworkSettings":{"HasSwarmEndpoint":"x"}}"#, false),
            (r#"{"NetworkSettings":{"LinkLocalIPv6Address":[1]}}"#, false),
            (r#"{"NetworkSettings":{"LinkLocalIPv6PrefixLen":"x"}}"#, false),
            (r#"{"NetworkSettings":{"SecondaryIPAddresses":[{"Addr":1}]}}"#, false),
            (r#"{"NetworkSettings":{"SecondaryIPv6Addresses":"x"}}"#, false),
            (r#"{"NetworkSettings":{"Service":7}}"#, false),
            (
                r#"{"NetworkSettings":{"Service":{"Aliases":{"a":["b"]},"ExposedPorts":[{"Protocol":-1,"TargetPort":80}]}}}"#,
                true,
            ),
            (r#"{"NetworkSettings":{"Service":{"ExposedPorts":[{"Protocol":2147483648}]}}}"#, false),
            (r#"{"NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":80}]}}}"#, false),
            (r#"{"NetworkSettings":{"Networks":{"bridge":{"Aliases":"x"}}}}"#, false),
            (r#"{"NetworkSettings":{"Networks":{"bridge":{"IPAMConfig":{"LinkLocalIPs":[1]}}}}}"#, false),
            (r#"{"NetworkSettings":{"Networks":{"bridge":{"MacAddress":1}}}}"#, false),
            (r#"{"NetworkSettings":{"Networks":{"bridge":{"globalipv6prefixlen":1.0}}}}"#, false),
            (
                r#"{"MountPoints":{"/v":{"Mode":7,"CopyData":7,"Spec":{"Type":"bind","TmpfsOptions":{"Mode":1023}}}}}"#,
                true,
            ),
            (r#"{"MountPoints":{"/v":{"Relabel":7}}}"#, false),
            (r#"{"MountPoints":{"/v":{"SkipMountpointCreation":"x"}}}"#, false),
            (r#"{"MountPoints":{"/v":{"Spec":7}}}"#, false),
            (r#"{"MountPoints":{"/v":{"Spec":{"Source":[1]}}}}"#, false),
            (r#"{"MountPoints":{"/v":{"Spec":{"VolumeOptions":{"DriverConfig":{"Options":{"a":1}}}}}}}"#, false),
        ] {
            let value = parse(text.as_bytes()).expect(text);
            assert_eq!(CONTAINER.accepts(value).is_ok(), taken, "{text}");
        }
        for (text, taken) in [
            (r#"{"CpuCount":-1,"IOMaximumIOps":18446744073709551615,"BlkioWeight":65535,"Unknown":[{}]}"#, true),
            (r#"{"CpuCount":18446744073709551615}"#, false),
            (r#"{"CpuPercent":"x"}"#, false),
            (r#"{"IOMaximumIOps":-1}"#, false),
            (r#"{"IOMaximumBandwidth":-0}"#, false),
            (r#"{"IOMaximumBandwidth":1e3}"#, false),
            (r#"{"BlkioWeight":65536}"#, false),
            (r#"{"BlkioDeviceReadBps":[null,{"Path":"/dev/sda","Rate":1}]}"#, true),
            (r#"{"BlkioDeviceReadBps":[{"Rate":-1}]}"#, false),
            (r#"{"ConsoleSize":[1,2,"x"]}"#, true),
            (r#"{"ConsoleSize":[1,-2]}"#, false),
            (r#"{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"],null]}]}"#, true),
            (r#"{"DeviceRequests":[{"Capabilities":["gpu"]}]}"#, false),
            (r#"{"Mounts":[{"Type":"volume","BindOptions":null,"ReadOnly":true}]}"#, true),
            (r#"{"Mounts":[{"ReadOnly":"true"}]}"#, false),
        ] {
            let value = parse(text.as_bytes()).expect(text);
            assert_eq!(HOST.accepts(value).is_ok(), taken, "{text}");
        }
    }

    /// `null` is taken everywhere, and no field takes a value of every kind.
    #[test]
    fn each_field_has_a_type() {
        fn look(shape: &Shape, path: &str) {
            let takes = |text: &str| shape.accepts(parse(text.as_bytes()).expect(text)).is_ok();
            assert!(takes("null"), "{path}");
            assert!(["7", "\"x\"", "true", "[1]"].iter().filter(|t| takes(t)).count() <= 1, "{path}");
            match shape {
                List(of) | First(_, of) | Map(of) => look(of, &format!("{path}.*")),
                Object(fields) => {
                    for (i, (name, shape)) in fields.iter().enumerate() {
                        assert!(
                            !fields[..i].iter().any(|(other, _)| json::is_field(other, name)),
                            "{path}.{name} twice"
                        );
                        look(shape, &format!("{path}.{name}"));
                    }
                }
                Text | Bool | Whole(..) | Time | Words => {}
            }
        }
        look(&CONTAINER, "config.v2.json");
        look(&HOST, "hostconfig.json");
    }
}
