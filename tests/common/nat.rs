//! Machines behind routers. The test's own network namespace is the internet, whose hosts have addresses in 20.0.0.0/24. Each
//! router is a namespace that translates addresses with nftables, keeps ports if they are free, and lets in only what answers its
//! own side: the kind of NAT that RFC 4787 calls address- and port-dependent filtering.

use std::process::{Child, Command};

/// A machine, and the router between it and the internet.
pub struct NattedMachine {
    machine: Child,
    router: Child,
    number: u8,
}

/// Adds an address of the internet to this namespace, and lets it forward packets.
pub fn become_internet(hosts: &[&str]) {
    let hosts = hosts.join(" ");
    run(&format!("for host in {hosts}; do ip addr add $host/32 dev lo; done; echo 1 > /proc/sys/net/ipv4/ip_forward"));
}

impl NattedMachine {
    /// Machine `number`, from 1. What the router does with packets that it does not let in is a verdict of nftables.
    pub fn new(number: u8, verdict: &str) -> NattedMachine {
        let namespace = || {
            let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().expect("unshare");
            // The namespace exists once it differs from ours.
            let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            super::until("the machine is there", || own(&child.id().to_string()) != own("self"));
            child
        };
        let behind = NattedMachine { machine: namespace(), router: namespace(), number };
        let (machine, router) = (behind.machine.id(), behind.router.id());
        let (m, r) = (format!("nsenter -t {machine} -n"), format!("nsenter -t {router} -n"));
        run(&format!(
            "ip link add wan{number} type veth peer name wan netns {router}
            ip addr add 20.0.{number}.1/24 dev wan{number}; ip link set wan{number} up
            {r} ip link set lo up; {r} ip addr add 20.0.{number}.2/24 dev wan; {r} ip link set wan up
            {r} ip route add default via 20.0.{number}.1
            {r} ip link add lan type veth peer name eth0 netns {machine}
            {r} ip addr add 192.168.{number}.1/24 dev lan; {r} ip link set lan up
            {m} ip link set lo up; {m} ip addr add 192.168.{number}.2/24 dev eth0; {m} ip link set eth0 up
            {m} ip route add default via 192.168.{number}.1
            {r} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
            {r} nft -f - <<RULES
            table ip router {{
                chain postrouting {{ type nat hook postrouting priority 100; oifname wan masquerade; }}
                chain input {{
                    type filter hook input priority 0;
                    ct state established,related accept
                    iifname wan {verdict}
                }}
                chain forward {{
                    type filter hook forward priority 0; policy drop;
                    ct state established,related accept
                    iifname lan accept
                }}
            }}
RULES
"
        ));
        behind
    }

    /// The router's address on the internet.
    pub fn public_ip(&self) -> String {
        format!("20.0.{}.2", self.number)
    }

    /// The same command on the machine.
    pub fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.machine.id().to_string(), "-n", "--"]).arg(of.get_program()).args(of.get_args());
        for (name, value) in of.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

impl Drop for NattedMachine {
    fn drop(&mut self) {
        for child in [&mut self.machine, &mut self.router] {
            // Both fail only if the process has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(script: &str) {
    let status = Command::new("sh").args(["-e", "-c", script]).status().expect("sh");
    assert!(status.success(), "cannot set up the network: {script}");
}
