// The dashboard is complete without this file. It adds live numbers, keys, copy buttons and confirmations.
(() => {
"use strict";
const root = document.documentElement;
const kept = (key, value) => {try {return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value);} catch {return null;}};
root.setAttribute("data-js", "");
if (kept("taskflow-theme")) root.dataset.theme = kept("taskflow-theme");

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const on = (target, name, work) => target.addEventListener(name, work);
const make = (tag, name, text) => Object.assign(document.createElement(tag), {className: name || "", textContent: text || ""});
const base = () => document.body.dataset.base || "";

function ago(at) {
 const s = (Date.now() - at) / 1000, t = Math.floor(Math.abs(s)) + (s < 0 ? 1 : 0);
 const text = t < 60 ? t + " s" : t < 3600 ? Math.floor(t / 60) + " min" : t < 172800 ? Math.floor(t / 3600) + " h" : Math.floor(t / 86400).toLocaleString("en") + " d";
 return s >= 0 ? (t === 0 ? "now" : text + " ago") : "in " + text;
}
function tick() {for (const it of $$("time[data-ago]")) {const text = ago(Date.parse(it.dateTime)); if (it.textContent !== text) it.textContent = text;}}

function toast(text) {
 const old = $(".toast"); if (old) old.remove();
 const it = make("div", "toast", text);
 it.setAttribute("role", "status"); document.body.append(it); setTimeout(() => it.remove(), 1800);
}
async function copy(text) {
 try {await navigator.clipboard.writeText(text); toast("Copied"); return;} catch {/* plain http has no clipboard */}
 const area = make("textarea", "vh", text);
 document.body.append(area); area.select();
 toast(document.execCommand("copy") ? "Copied" : "Press Ctrl+C"); area.remove();
}

/* Confirmations: a form is sent only after a yes */
function ask(title, text, label, danger) {
 return new Promise((done) => {
  const it = make("dialog"), pad = make("form", "pad"), row = make("div", "buttons");
  pad.method = "dialog";
  for (const [value, word, kind] of [["", "Back", "btn"], ["yes", label, "btn " + (danger ? "danger" : "primary")]]) {
   const b = make("button", kind, word);
   b.value = value; b.autofocus = !!value; row.append(b);
  }
  pad.append(make("h2", "", title), make("p", "dim", text), row); it.append(pad); document.body.append(it);
  on(it, "close", () => {done(it.returnValue === "yes"); it.remove();});
  it.showModal();
 });
}

let paused = kept("taskflow-paused") === "1", source = null, polling = 0, missed = false, total = null, rowsAt = 0;
const pending = new Map(), tags = new Map();
const STATES = {on: "live", off: "no connection", wait: "connecting", stop: "paused"};
function state(name) {
 const it = $("#live"); if (!it) return;
 it.className = "live " + name; $("span", it).textContent = STATES[name];
}
function numbers(values) {
 for (const it of $$("[data-v]")) {
  const text = values[it.dataset.v];
  if (text === undefined || it.textContent === text) continue;
  it.textContent = text;
  const cell = it.closest(".strip a"); if (cell) cell.classList.toggle("zero", text === "0");
 }
}
/* A region in use is not refreshed: it has the focus, a tick, typed or marked text, or an open menu. */
function busy(region) {
 const at = document.activeElement, marked = getSelection();
 return (at && at !== region && region.contains(at)) || $("input[name]:checked", region) || $("details[open]", region) || $("dialog[open]")
  || $$("input,textarea", region).some((it) => it.type !== "checkbox" && it.value !== it.defaultValue)
  || (marked && !marked.isCollapsed && region.contains(marked.anchorNode));
}
async function fetched(url) {
 const headers = tags.has(url) ? {"If-None-Match": tags.get(url)} : {};
 const answer = await fetch(url, {headers, cache: "no-store", credentials: "same-origin"});
 if (answer.status === 304) return null;
 if (answer.status === 401) {location.reload(); return null;}
 if (!answer.ok) throw new Error(answer.status);
 if (answer.headers.get("ETag")) tags.set(url, answer.headers.get("ETag"));
 return new DOMParser().parseFromString(await answer.text(), "text/html");
}
function address(part) {const url = new URL(location); url.searchParams.set("part", part); url.searchParams.delete("did"); url.hash = ""; return url.href;}
async function refreshParts() {
 const due = $$("[data-part]").filter((it) => (pending.get(it.dataset.part) || 0) <= Date.now());
 if (!due.length) return;
 for (const it of due) pending.set(it.dataset.part, Date.now() + 1000 * it.dataset.every);
 const page = await fetched(address("page"));
 if (!page) return;
 for (const it of due) {
  const fresh = $(`[data-part="${it.dataset.part}"]`, page), now = $(`[data-part="${it.dataset.part}"]`);
  if (fresh && now && !busy(now)) now.replaceWith(fresh);
 }
}
async function refreshRows() {
 const region = $("[data-rows]");
 if (!region || Date.now() - rowsAt < 2000) {missed = !!region; return;}
 if (region.dataset.first !== "true" || busy(region) || scrollY > 200) {pill(); return;}
 rowsAt = Date.now(); missed = false;
 const page = await fetched(address("rows"));
 if (!page || busy(region)) return;
 const old = new Set($$("tr[data-id]", region).map((it) => it.dataset.id)), at = $("tr.at", region);
 region.replaceChildren(...page.body.childNodes);
 if (old.size) for (const row of $$("tr[data-id]", region)) if (!old.has(row.dataset.id)) row.classList.add("new");
 if (at) {const same = $$("tr[data-id]", region).find((it) => it.dataset.id === at.dataset.id); if (same) same.classList.add("at");}
 const it = $(".fresh"); if (it) it.remove();
}
function all() {const it = $("[data-v='c.total']"); return it && +it.textContent.replace(/,/g, "");}
function pill() {
 let it = $(".fresh"); const form = $("#many"); if (!form) return;
 if (!it) {
  it = make("button", "fresh"); it.type = "button";
  on(it, "click", () => {
   const url = new URL(location); url.searchParams.delete("after"); url.searchParams.delete("trail"); location.assign(url);
  });
  form.before(it);
 }
 const more = total === null ? 0 : all() - total;
 it.textContent = more > 0 ? more.toLocaleString("en") + " new" : "Show changes";
}
const quiet = (work) => work.catch(() => state("off"));
function pulse(data) {
 numbers(data.v);
 const strip = $("#degraded"); if (strip) {strip.hidden = !data.degraded; strip.textContent = data.degraded;}
 if (data.changed || missed) quiet(refreshRows());
 if ($("[data-part]")) quiet(refreshParts());
}
function connect() {
 if (source || polling || paused || document.hidden || !$("#live")) return;
 state("wait");
 source = new EventSource(base() + "/events");
 on(source, "open", () => state("on"));
 on(source, "pulse", (event) => pulse(JSON.parse(event.data)));
 on(source, "error", () => {
  state("off");
  if (source && source.readyState === EventSource.CLOSED) {source = null; polling = setInterval(() => quiet(poll()), 5000);}
 });
}
/* Without a stream, the page polls. */
async function poll() {
 const page = await fetched(address("page"));
 state("on");
 if (!page) return;
 numbers(Object.fromEntries($$("[data-v]", page).map((it) => [it.dataset.v, it.textContent])));
 await refreshRows();
}
function disconnect() {if (source) source.close(); clearInterval(polling); source = null; polling = 0; unfollow();}

/* One task: its lines, its progress, and what has changed */
let task = null;
function unfollow() {if (task) task.close(); task = null;}
function follow() {
 const it = $("#task");
 if (!it || task || paused || document.hidden || "ended" in it.dataset) return;
 task = new EventSource(it.dataset.stream + "&after=" + it.dataset.after);
 on(task, "log", (event) => line(JSON.parse(event.data)));
 on(task, "progress", (event) => {
  const {percent, message} = JSON.parse(event.data), bar = $("#progress");
  if (!bar) {quiet(refreshTask()); return;}
  bar.value = percent; $("#progress-text").textContent = message;
 });
 on(task, "status", () => quiet(refreshTask()));
 on(task, "end", () => {unfollow(); quiet(refreshTask());});
 on(task, "gone", () => {unfollow(); toast("The record has been deleted");});
 // A new stream begins after the lines that this page has, so none is lost.
 on(task, "error", () => {unfollow(); setTimeout(follow, 2000);});
}
const LEVELS = ["debug", "info", "warn", "error"];
function line(it) {
 const logs = $("#logs"), page = $("#task");
 page.dataset.after = +page.dataset.after + 1;
 if (!logs || LEVELS.indexOf(it.level) < LEVELS.indexOf(logs.dataset.level)) return;
 const none = $("#no-logs"); if (none) none.remove();
 if (+logs.dataset.attempt !== it.attempt) {
  const cut = make("div", "cut");
  cut.append(make("span", "", "attempt " + it.attempt)); logs.append(cut);
  logs.dataset.attempt = it.attempt;
 }
 const row = make("div", "l-" + it.level + " new"), time = make("time", "faint", it.clock);
 time.dateTime = it.at; row.append(time, make("span", "", it.level), make("span", "", it.message));
 logs.append(row);
 if ($("#follow") && $("#follow").checked) logs.scrollTop = logs.scrollHeight;
}
async function refreshTask() {
 const old = $("#task"); if (!old || busy(old)) return;
 const page = await fetched(address("body")), fresh = page && $("#task", page); if (!fresh) return;
 const box = $("#follow"), follows = !box || box.checked;
 old.replaceWith(fresh);
 if ($("#follow")) $("#follow").checked = follows;
 const logs = $("#logs"); if (logs && follows) logs.scrollTop = logs.scrollHeight;
}

function picked() {
 const many = $("#many"); if (!many || !$("#picked")) return;
 const n = $$("input[name=id]:checked", many).length, all = $("input[name=all]", many);
 $("#picked").textContent = all && all.checked ? "All that match" : n ? n + " selected" : "Select tasks";
 for (const it of $$("button[name=verb]", many)) it.disabled = !n && !(all && all.checked);
 const top = $("#pick-all"), boxes = $$("input[name=id]", many);
 if (top) {top.checked = n > 0 && n === boxes.length; top.indeterminate = n > 0 && n < boxes.length;}
}

let went = 0;
const GO = {o: "", t: "/tasks", f: "/failures", q: "/queues", s: "/schedules", w: "/workers", y: "/types", a: "/audit"};
function move(step) {
 const all = $$("tbody tr").filter((it) => $("a", it)); if (!all.length) return;
 const at = all.findIndex((it) => it.classList.contains("at"));
 if (at >= 0) all[at].classList.remove("at");
 const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))];
 next.classList.add("at"); next.scrollIntoView({block: "nearest"});
}
function click(selector) {const it = $(selector); if (it) it.click(); return !!it;}
function verb(name, key) {
 if (click(`[data-key="${key}"]`)) return;
 const at = $("tr.at input[name=id]");
 if (at && !$("#many input[name]:checked")) {at.checked = true; picked();}
 click(`#many button[value="${name}"]:not(:disabled)`);
}
function pause(on) {
 paused = on; kept("taskflow-paused", on ? "1" : "0");
 const it = $("#pause"); if (it) {it.textContent = on ? "Resume" : "Pause"; it.setAttribute("aria-pressed", on);}
 if (on) {disconnect(); state("stop");} else {connect(); follow();}
}
function key(event) {
 if (event.ctrlKey || event.metaKey || event.altKey) return;
 if (event.target.closest("input:not([type=checkbox]),textarea,select")) {if (event.key === "Escape") event.target.blur(); return;}
 if ($("dialog[open]")) return;
 const k = event.key;
 if (Date.now() - went < 1200 && k in GO) {went = 0; location.assign(base() + GO[k] || "/"); return;}
 const at = $("tr.at"), acts = {
  g: () => {went = Date.now();}, "/": () => $(".search input").select(), "?": () => $("#keys").showModal(),
  j: () => move(1), k: () => move(-1), r: () => location.reload(), p: () => pause(!paused),
  x: () => at && $("input[name=id]", at) && $("input[name=id]", at).click(), X: () => click("#pick-all"),
  R: () => verb("retry", "R"), C: () => verb("cancel", "C"), D: () => verb("delete", "D"),
  "[": () => click("a[rel=prev]"), "]": () => click("a[rel=next]"),
  e: () => {const all = $$("[data-error]"), open = all.some((it) => !it.open); for (const it of all) it.open = open;},
  Enter: () => at && !event.target.closest("a,button,summary") && $("a", at).click(),
  Escape: () => {if (at) at.classList.remove("at"); for (const it of $$("details.menu[open]")) it.open = false;},
 };
 if (!acts[k]) return;
 if (k !== "Enter" && k !== "Escape") event.preventDefault();
 acts[k]();
}

on(document, "DOMContentLoaded", () => {
 total = all();
 tick(); setInterval(() => {if (!document.hidden) tick();}, 1000);
 picked(); pause(paused);
 const logs = $("#logs"); if (logs && !("ended" in $("#task").dataset)) logs.scrollTop = logs.scrollHeight;
 on(document, "keydown", key);
 on(document, "visibilitychange", () => {if (document.hidden) disconnect(); else {connect(); follow();}});
 on(document, "change", (event) => {
  if (event.target.id === "pick-all") for (const it of $$("#many input[name=id]")) it.checked = event.target.checked;
  if (event.target.closest("#many")) picked();
 });
 on(document, "submit", (event) => {
  const button = event.submitter, text = button && button.dataset.confirm;
  if (!text) return;
  event.preventDefault();
  ask(button.textContent.trim() + "?", text, button.textContent.trim(), button.classList.contains("danger")).then((yes) => {if (yes) event.target.submit();});
 });
 on(document, "click", (event) => {
  const it = event.target.closest("button"); if (!it) return;
  if (it.id === "pause") pause(!paused);
  if (it.id === "theme") {
   const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
   root.dataset.theme = dark ? "light" : "dark"; kept("taskflow-theme", root.dataset.theme);
  }
  if (it.dataset.copy) copy(it.dataset.copy);
  if (it.dataset.copyFrom) copy($("#" + it.dataset.copyFrom).textContent);
  if ("copyUrl" in it.dataset) copy(location.href);
 });
});
})();
