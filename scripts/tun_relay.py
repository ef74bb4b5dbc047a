#!/usr/bin/env python3
"""A slow, lossy path between two network namespaces: tun_relay.py FAR_PID [OPTION=NUMBER...]

Creates the interface `slow` here, with the address 10.90.0.1, and in the namespace of the process FAR_PID, with 10.90.0.2, which also
becomes its default route. Carries all IP packets between them, so TCP and UDP share the queue. Prints "ready", and then once a second
a line of JSON with the counts of the last second. Needs root, or a user namespace and access to /dev/net/tun.

Options, the same for both directions: delay=MS (one way), loss=PER_MILLE, late=PER_MILLE of packets that later ones overtake,
rate=KBIT_PER_SECOND of a bottleneck, queue=BYTES before it, seed=NUMBER.
"""
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
NEAR, FAR = "10.90.0.1", "10.90.0.2"
# How much later a packet arrives that is to be overtaken, in seconds.
LATE = 0.02


def open_tun(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def configure(far_pid):
    far = f"nsenter -t {far_pid} -n ip"
    script = f"""set -e
    ip link set slow-far netns {far_pid}
    {far} link set slow-far name slow
    ip addr add {NEAR} peer {FAR} dev slow && ip link set slow up
    {far} link set lo up && {far} addr add {FAR} peer {NEAR} dev slow && {far} link set slow up && {far} route add default dev slow"""
    subprocess.run(["sh", "-c", script], check=True)


class Direction:
    """One direction of the path. Protocols are told apart by their number in the IP header."""

    def __init__(self, options, number):
        self.random = random.Random(options["seed"] * 2 + number)
        self.options = options
        self.free_at = 0.0
        self.clear()

    def clear(self):
        self.counts = {"tcp": 0, "udp": 0, "lost": 0, "dropped": 0, "waits": []}

    def arrival(self, now, packet):
        """When a packet arrives; None if it is lost."""
        options, counts = self.options, self.counts
        if options["rate"]:
            rate = options["rate"] * 125.0
            begin = max(now, self.free_at)
            if (begin - now) * rate + len(packet) > options["queue"]:
                counts["dropped"] += 1
                return None
            self.free_at = begin + len(packet) / rate
            counts["waits"].append(begin - now)
            now = self.free_at
        if self.random.random() * 1000 < options["loss"]:
            counts["lost"] += 1
            return None
        counts["tcp" if packet[9] == 6 else "udp"] += len(packet)
        late = LATE if self.random.random() * 1000 < options["late"] else 0.0
        return now + options["delay"] / 1000 + late

    def report(self):
        waits = sorted(self.counts.pop("waits"))
        middle, most = (waits[len(waits) // 2], waits[-1]) if waits else (0.0, 0.0)
        report = {**self.counts, "wait_median": round(middle * 1000, 1), "wait_max": round(most * 1000, 1)}
        self.clear()
        return report


def main():
    options = {"delay": 0.0, "loss": 0.0, "late": 0.0, "rate": 0.0, "queue": 1e9, "seed": 1}
    for word in sys.argv[2:]:
        name, number = word.split("=")
        assert name in options, name
        options[name] = float(number)
    tuns = [open_tun("slow"), open_tun("slow-far")]
    configure(int(sys.argv[1]))
    directions = [Direction(options, 0), Direction(options, 1)]
    waiting, count = [], 0
    poll = select.poll()
    for tun in tuns:
        poll.register(tun, select.POLLIN)
    print("ready", flush=True)
    report_at = time.monotonic() + 1
    while True:
        next_at = min(waiting[0][0], report_at) if waiting else report_at
        pause = next_at - time.monotonic()
        # The last part of a millisecond is waited for actively, because poll counts in milliseconds.
        for tun, _ in poll.poll(max(0, int(pause * 1000))):
            source = tuns.index(tun)
            for _ in range(64):
                try:
                    packet = os.read(tun, 65536)
                except BlockingIOError:
                    break
                # IPv6 is not carried.
                if packet[0] >> 4 == 4 and (at := directions[source].arrival(time.monotonic(), packet)) is not None:
                    count += 1
                    heapq.heappush(waiting, (at, count, 1 - source, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(tuns[to], packet)
            except OSError:
                pass  # a full queue, or the interface is gone
        if now >= report_at:
            report_at += 1
            print(json.dumps({"there": directions[0].report(), "back": directions[1].report()}), flush=True)


main()
