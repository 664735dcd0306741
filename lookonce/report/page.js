"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = JSON.parse(byId("data").textContent);
  const state = { label: -1, kinds: new Set(), score: 0 };
  const shots = all(".shot").map((figure) => ({ figure, groups: all("g", figure) }));
  const gallery = byId("gallery");

  // ---------------------------------------------------------------- the address
  // A part of it that cannot be decoded chooses nothing.
  function decoded(text) {
    try { return decodeURIComponent(text.replace(/\+/g, " ")); } catch { return ""; }
  }

  function readAddress() {
    const hash = location.hash.slice(1);
    if (!/^(class|kind|score)=/.test(hash)) {
      goTo(hash);
      return;
    }
    const wanted = new Map(hash.split("&").map((part) => {
      const at = part.indexOf("=");
      return [part.slice(0, at), decoded(part.slice(at + 1))];
    }));
    state.label = wanted.has("class") ? data.names.indexOf(wanted.get("class")) : -1;
    const known = new Set(all("[name=kind]").map((box) => box.value));
    state.kinds = new Set((wanted.get("kind") || "").split(",").filter((kind) => known.has(kind)));
    const score = Number(wanted.get("score"));
    state.score = score > 0 && score <= 1 ? score : 0;
    update();
  }

  // A picture that a list points to is shown even if the filter hides it.
  function goTo(id) {
    all(".shot.target").forEach((figure) => figure.classList.remove("target"));
    const found = /^picture-\d+$/.test(id) ? byId(id) : null;
    if (!found) return;
    if (found.hidden) clear(false);
    found.classList.add("target");
    found.focus({ preventScroll: true });
    found.scrollIntoView({ block: "center" });
  }

  function writeAddress() {
    const parts = [];
    if (state.label >= 0) parts.push("class=" + encodeURIComponent(data.names[state.label]));
    if (state.kinds.size) parts.push("kind=" + [...state.kinds].join(","));
    if (state.score > 0) parts.push("score=" + state.score);
    const hash = "#" + (parts.join("&") || "gallery");
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }

  // ---------------------------------------------------------------- the gallery
  function matches(group) {
    const { kind, score } = group.dataset;
    if (state.label >= 0 && Number(group.dataset.class) !== state.label) return false;
    if (state.kinds.size && !state.kinds.has(kind)) return false;
    if (state.score === 0) return true;
    // What has no score is asked for only by name.
    return score === undefined ? kind === "missed" && state.kinds.has("missed") : Number(score) >= state.score;
  }

  function update() {
    const filtered = state.label >= 0 || state.kinds.size > 0 || state.score > 0;
    let count = 0;
    for (const { figure, groups } of shots) {
      let any = false;
      for (const group of groups) {
        const hit = matches(group);
        any = any || hit;
        group.classList.toggle("off", group.dataset.kind !== "truth" && !hit);
      }
      figure.hidden = filtered && !any;
      count += figure.hidden ? 0 : 1;
    }
    if (gallery) {
      byId("class").value = String(state.label);
      all("[name=kind]").forEach((box) => { box.checked = state.kinds.has(box.value); });
      byId("score").value = String(state.score);
      byId("score-value").textContent = state.score.toFixed(2);
      byId("shown").textContent = filtered ? `${count} of ${shots.length} pictures` : `${shots.length} pictures`;
      byId("clear").disabled = !filtered;
    }
    const name = data.names[state.label];
    all("#table tbody tr").forEach((row) => row.classList.toggle("current", row.cells[0].dataset.value === name));
    if (plot) chooseCurve(state.label < 0 ? -1 : data.curves.findIndex((curve) => curve.name === name));
  }

  function clear(address = true) {
    Object.assign(state, { label: -1, kinds: new Set(), score: 0 });
    update();
    if (address) writeAddress();
  }

  if (gallery) {
    const form = byId("filter");
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      state.label = Number(byId("class").value);
      state.kinds = new Set(all("[name=kind]:checked").map((box) => box.value));
      state.score = Number(byId("score").value);
      gallery.classList.toggle("no-truth", !byId("truth").checked);
      gallery.classList.toggle("no-labels", !byId("labels").checked);
      update();
      writeAddress();
    });
    byId("clear").addEventListener("click", () => clear());
  }

  // ---------------------------------------------------------------- one picture, large
  const large = byId("large");
  let open = null;

  function cell(row, text, kind) {
    const td = row.insertCell();
    if (kind) {
      const swatch = document.createElement("span");
      swatch.className = "swatch " + kind;
      td.append(swatch);
    }
    td.append(text);
    return td;
  }

  function enlarge(figure) {
    open = figure;
    byId("large-title").textContent = figure.querySelector("figcaption b").textContent;
    const parts = all(".open img, .open svg", figure).map((part) => part.cloneNode(true));
    byId("large-picture").replaceChildren(...parts);
    const rows = all("g:not(.off)", figure).map((group) => {
      const row = document.createElement("tr");
      cell(row, group.dataset.kind, group.dataset.kind);
      cell(row, data.names[Number(group.dataset.class)]);
      cell(row, group.dataset.score === undefined ? "–" : Number(group.dataset.score).toFixed(3)).className = "n";
      return { row, score: Number(group.dataset.score ?? -1) };
    });
    rows.sort((a, b) => b.score - a.score);
    byId("large-boxes").replaceChildren(...rows.map(({ row }) => row));
    if (!large.open) large.showModal();
  }

  function step(by) {
    const shown = shots.map(({ figure }) => figure).filter((each) => !each.hidden && each.querySelector(".open"));
    const next = shown[shown.indexOf(open) + by];
    if (next) enlarge(next);
  }

  if (large) {
    all(".open").forEach((button) => button.addEventListener("click", () => enlarge(button.closest("figure"))));
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => large.close());
    large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
    large.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
    });
    // Back to the picture that was seen last.
    large.addEventListener("close", () => open.querySelector(".open").focus());
  }

  // ---------------------------------------------------------------- curves
  const plot = byId("plot");
  const x = (value) => data.plot.left + value * data.plot.width;
  const y = (value) => data.plot.top + (1 - value) * data.plot.height;
  let curve = data.overall;

  const points = (one) => one.recall.map((r, i) => `${x(r).toFixed(1)},${y(one.precision[i]).toFixed(1)}`).join(" ");

  function chooseCurve(number) {
    const found = data.curves[number];
    curve = found || data.overall || data.curves[0];
    byId("chosen").setAttribute("points", found ? points(found) : "");
    byId("curve").value = String(found ? number : -1);
    read(Number(byId("recall").value));
  }

  // The point of the chosen curve whose recall is nearest.
  function read(recall) {
    if (!curve || !curve.recall.length) {
      byId("cursor").setAttribute("visibility", "hidden");
      byId("reading").textContent = curve ? `${curve.name}: no point` : "";
      return;
    }
    let best = 0;
    curve.recall.forEach((r, i) => {
      if (Math.abs(r - recall) < Math.abs(curve.recall[best] - recall)) best = i;
    });
    const [r, p] = [curve.recall[best], curve.precision[best]];
    const score = curve.score && curve.score[best] !== null ? `, score at least ${curve.score[best].toFixed(3)}` : "";
    byId("reading").textContent = `${curve.name}: recall ${r.toFixed(3)}, precision ${p.toFixed(3)}${score}`;
    const [line, circle] = byId("cursor").children;
    line.setAttribute("x1", x(r));
    line.setAttribute("x2", x(r));
    circle.setAttribute("cx", x(r));
    circle.setAttribute("cy", y(p));
    byId("cursor").setAttribute("visibility", "visible");
  }

  if (plot) {
    const select = byId("curve");
    select.closest(".controls").hidden = false;
    select.append(new Option(data.overall ? data.overall.name : "choose a class", "-1"));
    data.curves.forEach((one, number) => {
      select.append(new Option(one.name, String(number)));
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points(one));
      byId("others").append(line);
    });
    select.addEventListener("input", () => {
      const one = data.curves[Number(select.value)];
      state.label = one ? data.names.indexOf(one.name) : -1;
      update();
      writeAddress();
    });
    byId("recall").addEventListener("input", (event) => read(Number(event.target.value)));
    plot.addEventListener("pointermove", (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      const recall = Math.min(1, Math.max(0, (place.x - data.plot.left) / data.plot.width));
      byId("recall").value = String(recall);
      read(recall);
    });
  }

  // ---------------------------------------------------------------- the table of classes
  function sortBy(head, column) {
    const body = byId("table").tBodies[0];
    const number = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const falling = before === "none" ? number : before === "ascending";
    const known = (text) => text !== "" && !Number.isNaN(Number(text));
    const rows = [...body.rows].map((row) => ({ row, value: row.cells[column].dataset.value }));
    rows.sort((a, b) => {
      // What is not known comes last, whichever way the others go.
      if (number && known(a.value) !== known(b.value)) return known(a.value) ? -1 : 1;
      const order = number ? Number(a.value) - Number(b.value) : a.value.localeCompare(b.value);
      return (falling ? -order : order) || 0;
    });
    body.replaceChildren(...rows.map(({ row }) => row));
    all("th", head.parentElement).forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  }

  all("#table thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(head, column));
    head.replaceChildren(button);
  });

  update();
  readAddress();
  window.addEventListener("hashchange", readAddress);
})();
