"use strict";
const form = document.querySelector("form"), box = document.getElementById("wanted"), said = document.querySelector("output");
const items = [...document.querySelectorAll("main li")];
const place = new Map(items.map((item, i) => [item, i]));
const over = items.map((item) => place.get(item.parentElement.closest("li")) ?? -1);
const labels = items.map((item) => item.querySelector("summary, span"));
const texts = labels.map((label) => [...label.querySelectorAll("b, code")].map((part) => part.textContent).join(" ").toLowerCase());
const inside = items.map((item) => item.querySelector("details"));
const begun = inside.map((details) => details !== null && details.open);
let matches = [], at = -1;

function search() {
  const word = box.value.trim().toLowerCase();
  const hit = texts.map((text) => word !== "" && text.includes(word));
  matches = items.map((_, i) => i).filter((i) => hit[i]);
  at = -1;
  const keep = hit.slice(), open = word === "" ? begun.slice() : items.map(() => false), under = hit.slice();
  for (let i = items.length - 1; i >= 0; i--) if (keep[i] && over[i] >= 0) keep[over[i]] = open[over[i]] = true;
  for (let i = 0; i < items.length; i++) {
    under[i] = hit[i] || (over[i] >= 0 && under[over[i]]);
    items[i].hidden = word !== "" && !keep[i] && !under[i];
    items[i].classList.toggle("match", hit[i]);
    items[i].classList.remove("here");
    if (inside[i] !== null) inside[i].open = open[i];
  }
  said.textContent = word === "" ? "" : `${matches.length.toLocaleString("en")} found`;
}

function go(step) {
  if (matches.length === 0) return;
  if (at >= 0) items[matches[at]].classList.remove("here");
  at = (at + step + matches.length) % matches.length;
  items[matches[at]].classList.add("here");
  const label = labels[matches[at]];
  for (let i = over[matches[at]]; i >= 0; i = over[i]) inside[i].open = true;
  items[matches[at]].scrollIntoView({ block: "center" });
  said.textContent = `${(at + 1).toLocaleString("en")} of ${matches.length.toLocaleString("en")}: ${label.querySelector("b").textContent}`;
}

let waiting;
box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (at < 0) { clearTimeout(waiting); search(); }
  go(1);
});
for (const [id, open] of [["open", true], ["close", false]]) {
  document.getElementById(id).addEventListener("click", () => { for (const details of inside) if (details) details.open = open; });
}
form.hidden = false;
