"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const small = () => window.innerWidth < 640;

  // "var(--name)" anywhere in a figure becomes the colour that the page has now.
  const paint = (value, style) => {
    if (typeof value === "string") {
      const named = /^var\((--[a-z0-9-]+)\)$/.exec(value);
      return named ? style.getPropertyValue(named[1]).trim() || value : value;
    }
    if (Array.isArray(value)) return value.map((item) => paint(item, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, paint(item, style)]));
    return value;
  };

  const drawFigure = (id, width) => {
    const element = document.getElementById("plot-" + id);
    if (!element) return;
    const style = getComputedStyle(root);
    const figure = paint(data.figures[id], style);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const axis = (own) => ({ gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"),
                             automargin: true, ticks: "", ...own, title: { standoff: 8, ...(own || {}).title } });
    const layout = {
      margin: { l: 10, r: 14, t: 12, b: 10 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("faint"), font: { color: colour("text"), size: 12 } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, showlegend: false, dragmode: false,
      ...figure.layout, xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis), width,
    };
    if (small() && !width && layout.height > 330) layout.height = 330;
    return Plotly.react(element, figure.data, layout, { responsive: true, displayModeBar: false });
  };

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  const frusta = (cameras) => {
    const out = { x: [], y: [], z: [] };
    const path = [0, 1, 2, 0, 3, 4, 0, null, 1, 4, null, 2, 3, null];
    for (const camera of cameras)
      for (const k of path)
        ["x", "y", "z"].forEach((name, i) => out[name].push(k === null ? null : camera.corners[k][i]));
    return out;
  };

  const drawScene = (view) => {
    const canvas = view.querySelector(".canvas");
    const scene = data.scene;
    const xyz = new Float32Array(bytes(scene.xyz).buffer);
    const rgb = bytes(scene.rgb);
    const points = { x: [], y: [], z: [], colour: [] };
    for (let i = 0; i < scene.shown; i++) {
      points.x.push(xyz[3 * i]); points.y.push(xyz[3 * i + 1]); points.z.push(xyz[3 * i + 2]);
      // Dark stone on a dark ground: lifted a little, as the eye does in the shade.
      const lift = (k) => Math.round(255 * Math.pow(rgb[3 * i + k] / 255, 0.8));
      points.colour.push(`rgb(${lift(0)},${lift(1)},${lift(2)})`);
    }
    const traces = [{ type: "scatter3d", mode: "markers", x: points.x, y: points.y, z: points.z, hoverinfo: "skip",
                      marker: { size: scene.shown > 15000 ? 1.6 : 2.2, color: points.colour, opacity: 1, line: { width: 0 } } }];
    const groups = [["cameras", "#5ac8ff"], ["reference", "#ffb454"]];
    for (const [group, colour] of groups) {
      if (!scene[group].length) continue;
      traces.push({ type: "scatter3d", mode: "lines", ...frusta(scene[group]), hoverinfo: "skip",
                    line: { color: colour, width: group === "cameras" ? 2.5 : 2 } });
      traces.push({ type: "scatter3d", mode: "markers", hoverinfo: "none", meta: group,
                    x: scene[group].map((c) => c.corners[0][0]), y: scene[group].map((c) => c.corners[0][1]),
                    z: scene[group].map((c) => c.corners[0][2]), marker: { size: 4, color: colour } });
    }
    // One scale on all axes, everything inside.
    let reach = 0.5;
    for (const trace of traces) for (const axis of [trace.x, trace.y, trace.z]) for (const v of axis) reach = Math.max(reach, Math.abs(v));
    reach *= 1.02;
    const axis = { visible: false, range: [-reach, reach], showspikes: false };
    // plotly's camera lives in a box whose sides are the aspect ratio: half our units with the ranges above.
    const halved = (v) => ({ x: v[0] / 2, y: v[1] / 2, z: v[2] / 2 });
    const start = () => {
      // The eye was chosen for a wide view; a narrow one needs more distance.
      const away = Math.max(1.06, (1.8 * view.clientHeight) / view.clientWidth);
      const eye = scene.eye.position.map((v, i) => scene.eye.target[i] + away * (v - scene.eye.target[i]));
      return { eye: halved(eye), center: halved(scene.eye.target), up: { x: 0, y: 0, z: 1 } };
    };
    const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false, uirevision: 1,
      scene: { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "manual", aspectratio: { x: reach, y: reach, z: reach },
               dragmode: "turntable", camera: start(), bgcolor: "rgba(0,0,0,0)", hovermode: "closest" } };
    Plotly.newPlot(canvas, traces, layout, { responsive: true, displayModeBar: false, scrollZoom: true }).then(() => view.classList.add("drawn"));
    view.querySelector(".reset").addEventListener("click", () => Plotly.relayout(canvas, { "scene.camera": start() }));

    // The wheel scrolls the page until the view has been clicked: nobody likes a page that holds on to the wheel.
    let active = false;
    view.addEventListener("pointerdown", () => { active = true; }, true);
    view.addEventListener("pointerleave", () => { active = false; });
    view.addEventListener("wheel", (event) => { if (!active) event.stopImmediatePropagation(); }, { capture: true });

    const hover = view.querySelector(".hover");
    canvas.on("plotly_hover", (event) => {
      const point = event.points[0];
      const group = point.data.meta;
      if (!group) return;
      const camera = scene[group][point.pointNumber];
      const card = document.getElementById("photo-" + camera.photo);
      hover.replaceChildren();
      const picture = card && card.querySelector("img");
      if (picture) { const copy = new Image(); copy.src = picture.src; hover.append(copy); }
      const text = document.createElement("div");
      text.textContent = (group === "reference" ? "reference: " : "") + (card ? card.dataset.name : "a photograph that was not given");
      hover.append(text);
      hover.hidden = false;
      const box = view.getBoundingClientRect();
      const mouse = event.event || {};
      const x = (mouse.clientX ?? box.left + box.width / 2) - box.left, y = (mouse.clientY ?? box.top + box.height / 2) - box.top;
      hover.style.left = Math.max(8, Math.min(x + 18, box.width - 246)) + "px";
      hover.style.top = Math.max(8, Math.min(y + 12, box.height - hover.offsetHeight - 8)) + "px";
    });
    canvas.on("plotly_unhover", () => { hover.hidden = true; });
  };

  const drawAll = (width) => { for (const id of Object.keys(data.figures)) drawFigure(id, width); };
  const drawInTurn = async () => {
    for (const id of Object.keys(data.figures)) {
      await drawFigure(id);
      await new Promise((next) => setTimeout(next, 0)); // the page can be read and scrolled meanwhile
    }
  };
  const webgl = () => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } };

  const view = document.querySelector(".view");
  if (view && data.scene) {
    if (webgl()) drawScene(view); else root.classList.add("nogl");
  }
  drawInTurn().then(() => root.classList.add("ready"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  window.addEventListener("beforeprint", () => { root.classList.add("paper"); drawAll(680); });
  window.addEventListener("afterprint", () => { root.classList.remove("paper"); drawAll(); });
})();
