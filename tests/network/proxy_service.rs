//! `--proxy` and `--anonymous` of `btsync serve`, with the record of all packets of its machine.

use serde_json::{Value, json};

use crate::anonymous::marks;
use crate::common::netns::{address, in_network_namespace};
use crate::common::service::{Service, base64};
use crate::common::until;
use crate::proxy::{PROXY, Scene};

/// Starts a service on the far machine.
fn start(scene: &Scene, name: &str, args: &[&str]) -> Service {
    scene.far.machine.run_inside(|| Service::start(&scene.temp, name, args))
}

/// Adds a torrent, and waits until it is complete.
fn download(scene: &Scene, name: &str, service: &Service, what: Value) {
    let added = scene.far.machine.run_inside(|| service.rpc("torrent_add", what));
    assert!(added["torrent_added"]["id"].is_u64(), "{added}");
    let folder = Service::downloads(&scene.temp, name);
    until("the download is complete", || scene.payload.difference(&folder).is_none());
}

#[test]
fn nothing_of_a_service_goes_around_its_proxy() {
    in_network_namespace("nothing_of_a_service_goes_around_its_proxy", &[], || {
        let scene = Scene::new();
        let url = scene.tracker.url("tracker.test");
        let link = scene.payload.magnet(&format!(
            "&tr={}&tr=udp%3A%2F%2F10.88.0.5%3A6969&x.pe=peer.test:6881&x.pe=10.88.0.6:6881&ws=http%3A%2F%2Fws.test%2Fa",
            url.replace(':', "%3A").replace('/', "%2F")
        ));
        let torrent = base64(&scene.payload.torrent(&url));
        for (name, scheme, what) in [
            ("link", "socks5", json!({ "filename": link })),
            ("file", "socks5", json!({ "metainfo": torrent })),
            ("http", "http", json!({ "filename": link })),
        ] {
            let proxy = Scene::proxy().with_credentials("me:secret");
            let service = start(&scene, name, &["--proxy", &format!("{scheme}://me:secret@{}", proxy.addr)]);
            download(&scene, name, &service, what);
            let requests = proxy.requests();
            assert!(proxy.has_request("tracker.test") && proxy.has_request(&scene.peer()), "{requests:?}");
            assert!(!service.running.log().contains("secret"), "{}", service.running.log());
            assert_eq!(scene.far.flows_beside(&[PROXY.into()]), [], "{name}");
        }
    });
}

/// A service that got its proxy while it was away downloads nothing until the proxy is there, and sends nothing elsewhere.
#[test]
fn a_service_waits_for_its_proxy() {
    in_network_namespace("a_service_waits_for_its_proxy", &[], || {
        let scene = Scene::new();
        let at = Scene::proxy().addr;
        let mut service = start(&scene, "waits", &["--proxy", &format!("socks5://{at}")]);
        let what = json!({ "metainfo": base64(&scene.payload.torrent(&scene.tracker.url("tracker.test"))) });
        scene.far.machine.run_inside(|| service.rpc("torrent_add", what));
        service.running.wait_for_output("connections through it wait");
        let _proxy = Scene::proxy_at(at);
        let folder = Service::downloads(&scene.temp, "waits");
        until("the download is complete", || scene.payload.difference(&folder).is_none());
        assert_eq!(scene.far.flows_beside(&[at.ip()]), []);
    });
}

#[test]
fn an_anonymous_service_sends_nothing_that_identifies_it() {
    in_network_namespace("an_anonymous_service_sends_nothing_that_identifies_it", &[], || {
        let scene = Scene::new();
        let what = json!({ "metainfo": base64(&scene.payload.torrent(&scene.tracker.url(&address(1)))) });
        let warning = "does not hide the IP address";

        // First, before the seeder knows the address of btsync's machine, which it would then name.
        let proxy = Scene::proxy();
        let proxied = start(&scene, "proxied", &["--anonymous", "--proxy", &format!("socks5://{}", proxy.addr)]);
        download(&scene, "proxied", &proxied, what.clone());
        assert_eq!(marks(&scene), [""; 0]);
        assert_eq!(scene.far.flows_beside(&[PROXY.into()]), []);
        assert!(!proxied.running.log().contains(warning), "{}", proxied.running.log());
        drop(proxied);

        scene.far.forget();
        let named = start(&scene, "named", &[]);
        download(&scene, "named", &named, what.clone());
        let found = marks(&scene).concat();
        assert!(["btsync", "-by", "user-agent"].iter().all(|mark| found.contains(mark)), "{found}");
        assert!(!named.running.log().contains(warning), "{}", named.running.log());
        drop(named);

        scene.far.forget();
        let direct = start(&scene, "direct", &["--anonymous"]);
        download(&scene, "direct", &direct, what);
        assert_eq!(marks(&scene), [""; 0]);
        assert!(!scene.far.flows().keys().any(|flow| flow.1.port() == 6771), "no local discovery");
        assert!(direct.running.log().contains(warning), "{}", direct.running.log());
    });
}
