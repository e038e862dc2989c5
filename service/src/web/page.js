// Plots of what happens, from /data.json, and the tables anew now and then. Nothing is sent, nothing is kept.
"use strict";

const POLL_MS = 2000;
const SAMPLES = 60;
const FACTS_EVERY = 3;

const main = document.querySelector("main");
const silence = document.getElementById("silence");
const history = new Map(); // of a disk: its samples, oldest first
let before = null;
let answered = Date.now();
let round = 0;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const drawn = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// Three digits, with a unit.
const short = (value, units, step) => {
  let at = 0;
  while (value >= step && at < units.length - 1) { value /= step; at += 1; }
  const digits = value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(digits) + units[at];
};
const count = (value) => short(value, ["", "k", "M", "G"], 1000);
const bytes = (value) => short(value, [" B", " KiB", " MiB", " GiB"], 1024);
const time = (ns) => (ns === null ? "–" : short(ns, [" ns", " µs", " ms", " s"], 1000));

// The time within which this part of the requests was done; they lie evenly in their bucket.
const quantile = (buckets, bounds, part) => {
  const all = buckets.reduce((sum, some) => sum + some, 0);
  if (all === 0) return null;
  let below = 0;
  for (let at = 0; at < bounds.length; at += 1) {
    const from = at === 0 ? 0 : bounds[at - 1];
    if (buckets[at] > 0 && below + buckets[at] >= all * part) {
      return from + ((bounds[at] - from) * (all * part - below)) / buckets[at];
    }
    below += buckets[at];
  }
  return bounds[bounds.length - 1];
};

// What a disk has done since an earlier reading.
const rates = (now, then, seconds, bounds) => {
  const per = (key) => Math.max(0, now[key] - then[key]) / seconds;
  const recent = (kind) => now.latency[kind].buckets.map((some, at) => Math.max(0, some - then.latency[kind].buckets[at]));
  const within = (kind, part) => quantile(recent(kind), bounds, part);
  return {
    reads: per("reads"), writes: per("writes"),
    readBytes: per("sectors_read") * now.sector_size, writtenBytes: per("sectors_written") * now.sector_size,
    readMedian: within("read", 0.5), readMost: within("read", 0.99),
    writeMedian: within("write", 0.5), writeMost: within("write", 0.99),
  };
};

// Of each line: its name, its key, its class. Latencies lie decades apart: their axis is logarithmic.
const PLOTS = [
  { title: "requests a second", unit: count, lines: [["reads", "reads", "read"], ["writes", "writes", "write dashed"]] },
  { title: "data a second", unit: bytes, lines: [["read", "readBytes", "read"], ["written", "writtenBytes", "write dashed"]] },
  { title: "latency of reads", unit: time, log: true, lines: [["median", "readMedian", "read"], ["99 %", "readMost", "read dashed"]] },
  { title: "latency of writes", unit: time, log: true, lines: [["median", "writeMedian", "write"], ["99 %", "writeMost", "write dashed"]] },
];

// A line through the samples; where there is none, it is broken.
const path = (samples, key, height) => {
  let line = "", pen = "M";
  samples.forEach((sample, at) => {
    if (sample[key] === null) { pen = "M"; return; }
    const x = (((SAMPLES - samples.length + at) / (SAMPLES - 1)) * 100).toFixed(2);
    line += `${pen}${x} ${(40 - 38 * height(sample[key])).toFixed(2)}`;
    // A point by itself is a short line.
    if (pen === "M") line += "h0.4";
    pen = "L";
  });
  return line;
};

const plot = (dev, { title, unit, log, lines }, samples) => {
  const last = samples[samples.length - 1];
  const values = samples.flatMap((sample) => lines.map(([, key]) => sample[key])).filter((value) => value !== null);
  const top = Math.max(...values, 0);
  const low = log ? Math.max(Math.min(...values, top) / 2, 1) : 0;
  const height = (value) => {
    if (top <= low) return 0;
    return log ? Math.log(Math.max(value, low) / low) / Math.log(top / low) : value / top;
  };
  const said = lines.map(([name, key]) => `${name} ${unit(last[key])}`);
  const svg = drawn("svg", { viewBox: "0 0 100 41", preserveAspectRatio: "none", role: "img", "aria-label": `${dev}, ${title}: ${said.join(", ")}` });
  svg.append(drawn("line", { class: "axis", x1: 0, x2: 100, y1: 40.5, y2: 40.5 }));
  for (const [, key, kind] of lines) svg.append(drawn("path", { class: kind, d: path(samples, key, height) }));
  const legend = lines.map(([name, key, kind]) =>
    element("span", { class: kind }, `${kind.includes("dashed") ? "- -" : "—"} ${name} `, element("b", {}, unit(last[key]))));
  const range = top === 0 ? "" : log ? `${unit(low)} to ${unit(top)}, log` : `up to ${unit(top)}`;
  return element("figure", {}, element("h3", {}, title, element("span", {}, range)), svg, element("figcaption", {}, ...legend));
};

const draw = () => {
  const made = [...history].map(([dev, samples], at) =>
    element("section", { "aria-labelledby": `plots-${at}`, class: "of-disk" },
      element("h2", { id: `plots-${at}` }, `${dev}, the last ${Math.round((SAMPLES * POLL_MS) / 60000)} minutes`),
      element("div", { class: "plots" }, ...PLOTS.map((one) => plot(dev, one, samples)))));
  main.querySelectorAll(".of-disk").forEach((old) => old.remove());
  const facts = document.getElementById("facts");
  // Health first, then what happens, then what is.
  facts.firstElementChild.after(...made);
};

const take = ({ stats }) => {
  const now = stats.machine.uptime_ns;
  const seconds = before ? (now - before.machine.uptime_ns) / 1e9 : 0;
  if (before && seconds > 0) {
    for (const device of stats.devices) {
      const then = before.devices.find((one) => one.dev === device.dev);
      if (!then) continue;
      const samples = history.get(device.dev) ?? [];
      samples.push(rates(device, then, seconds, stats.latency_bounds_ns));
      if (samples.length > SAMPLES) samples.shift();
      history.set(device.dev, samples);
    }
    for (const dev of history.keys()) {
      if (!stats.devices.some((one) => one.dev === dev)) history.delete(dev);
    }
  }
  // A machine that was started anew begins a new history.
  if (before && seconds < 0) history.clear();
  if (!before || seconds !== 0) before = stats;
};

const get = async (path) => {
  const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (!reply.ok) throw new Error(reply.status);
  return reply;
};

const poll = async () => {
  try {
    if (!document.hidden) {
      take(await (await get("/data.json")).json());
      if (round % FACTS_EVERY === 0) {
        const page = new DOMParser().parseFromString(await (await get("/")).text(), "text/html");
        document.getElementById("facts").replaceWith(page.getElementById("facts"));
        document.getElementById("since").replaceWith(page.getElementById("since"));
        document.title = page.title;
      }
      round += 1;
      draw();
    }
    answered = Date.now();
    silence.textContent = "";
  } catch {
    silence.textContent = `no answer for ${Math.round((Date.now() - answered) / 1000)} s: what follows is older`;
  }
  setTimeout(poll, POLL_MS);
};

poll();
