"use strict";
// Replaces sections whose digest has changed; opened details, scroll positions and the keyboard's focus stay.
const EVERY = 2000;
let known = JSON.parse(document.body.dataset.digests);

function remember(section) {
  const open = [...section.querySelectorAll("details")].map((one) => one.open);
  const scrolled = [...section.querySelectorAll(".scroll, pre")].map((one) => [one.scrollTop, one.scrollLeft]);
  const focusable = [...section.querySelectorAll("a, summary, [tabindex]")];
  const at = focusable.indexOf(document.activeElement);
  const titles = [...section.querySelectorAll("details > summary")].map((one) => one.textContent);
  const opened = new Map(titles.map((title, index) => [title, open[index]]));
  return { opened, scrolled, at };
}

function restore(section, before) {
  for (const one of section.querySelectorAll("details")) {
    const title = one.querySelector("summary").textContent;
    if (before.opened.has(title)) one.open = before.opened.get(title);
  }
  section.querySelectorAll(".scroll, pre").forEach((one, index) => {
    if (before.scrolled[index]) [one.scrollTop, one.scrollLeft] = before.scrolled[index];
  });
  const focusable = section.querySelectorAll("a, summary, [tabindex]");
  if (before.at >= 0 && focusable[before.at]) focusable[before.at].focus({ preventScroll: true });
}

async function update(name) {
  const answer = await fetch("/section/" + encodeURIComponent(name), { cache: "no-store" });
  if (!answer.ok) return;
  let section = document.getElementById(name);
  if (!section) {
    section = document.createElement("section");
    section.id = name;
    const names = Object.keys(known), after = names.slice(names.indexOf(name) + 1);
    const next = after.map((one) => document.getElementById(one)).find((one) => one);
    document.getElementById("sections").insertBefore(section, next || null);
  }
  const before = remember(section);
  section.innerHTML = await answer.text();
  restore(section, before);
}

async function poll() {
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    const state = await answer.json();
    const before = known;
    known = state.sections;
    document.title = state.title;
    for (const name of Object.keys(known)) {
      if (before[name] !== known[name]) await update(name);
    }
    document.documentElement.dataset.live = "yes";
  } catch (error) {
    document.documentElement.dataset.live = "no";
  }
}

async function loop() {
  if (!document.hidden) await poll();
  setTimeout(loop, EVERY);
}
loop();
