"use strict";
(() => {
  const live = document.body.dataset.live === "yes";
  const POLL = 5000; // milliseconds between two looks at what is going on
  const MANY = 30; // prompts of a group, beyond which its charts take the whole width
  const NARROW = 560; // pixels of a chart, below which names and numbers find no room
  let data = null;
  let token = ""; // typed by the user, kept in this page's memory alone
  let prompts = new Map();
  let sorting = { key: "task", down: false };
  let wanted = ""; // what the filter holds
  const choices = new Map(); // id of a select -> what was chosen in it
  const plots = new Set(); // { place, figure, drawn }

  // --- elements: text always goes in as text, never as markup

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") element.addEventListener(name, value);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  const draw = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    element.append(...children);
    return element;
  };

  const place = (id) => document.getElementById(id);
  const percent = (value) => (value === null || value === undefined ? "-" : value.toFixed(1));
  const signed = (value) => (value === null ? "-" : `${value >= 0 ? "+" : ""}${value.toFixed(1)}`);
  const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
  const say = (text) => { place("status").textContent = text; };

  function cell(value) {
    if (value === null || value === undefined) return "-";
    return typeof value === "number" && !Number.isInteger(value) ? String(Math.round(value * 100) / 100) : String(value);
  }

  function table(content, label) {
    const numeric = content.columns.map((_, at) => {
      return at > 0 && content.rows.every((row) => row[at] === null || typeof row[at] === "number");
    });
    const side = (at) => (numeric[at] ? "number" : null);
    const head = make("tr", {}, content.columns.map((name, at) => make("th", { scope: "col", class: side(at) }, name)));
    const body = content.rows.map((row) =>
      make("tr", {}, row.map((value, at) =>
        at === 0 ? make("th", { scope: "row" }, cell(value)) : make("td", { class: side(at) }, cell(value)))));
    return make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Table: ${label}` },
      make("table", {}, make("thead", {}, head), make("tbody", {}, body)));
  }

  function facts(pairs) {
    return make("dl", { class: "facts" },
      pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }

  function copied(text, label) {
    const button = make("button", {
      type: "button", class: "quiet", "aria-label": `Copy: ${label}`,
      click: async () => {
        try {
          await navigator.clipboard.writeText(text);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Select and copy it by hand";
        }
      },
    }, "Copy");
    return make("div", {}, make("pre", {}, make("code", {}, text)), button);
  }

  // What stands in it is made when it is opened: a table of a thousand rows takes its time.
  function unfolded(title, content) {
    const part = make("details", {}, make("summary", {}, title));
    part.addEventListener("toggle", () => { if (part.open && part.children.length === 1) part.append(content()); });
    return part;
  }

  // --- charts

  function coloured(value, styles) {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? styles.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((part) => coloured(part, styles));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, coloured(part, styles)]));
    }
    return value;
  }

  function dressed(figure, width) {
    const styles = getComputedStyle(document.documentElement);
    const { data: traces, layout } = coloured(figure, styles);
    const ink = styles.getPropertyValue("--ink").trim();
    const line = styles.getPropertyValue("--line").trim();
    const paper = styles.getPropertyValue("--paper").trim();
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: styles.getPropertyValue("--soft").trim(), fixedrange: true };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis/.test(name)) layout[name] = { ...axis, ...layout[name] };
    }
    const narrow = width < NARROW;
    if (narrow) {
      // A heat map loses height to its names and its scale, and a map needs no more height than it has width.
      if (traces.some(({ type }) => type === "heatmap")) layout.height += 110;
      else if (!layout.xaxis.title && !layout.meta) layout.height = Math.min(layout.height, width);
      for (const trace of traces) {
        if (trace.mode === "markers+text") {
          if (traces.reduce((sum, part) => sum + part.x.length, 0) > 12) trace.mode = "markers";
          else trace.textfont = { size: 9 };
        }
        if (trace.texttemplate && layout.xaxis.tickvals.length > 5) delete trace.texttemplate;
        if (trace.colorbar) trace.colorbar = { ...trace.colorbar, orientation: "h", y: 1.02, yanchor: "bottom", thickness: 8 };
      }
      if (layout.meta === "names above") {
        const names = layout.yaxis;
        layout.annotations = names.tickvals.map((at, number) => ({
          text: names.ticktext[number], x: 0, xref: "paper", xanchor: "left", y: at, yshift: 11,
          showarrow: false, font: { size: 11, color: ink },
        }));
        names.showticklabels = false;
        layout.height = layout.height * 1.6;
      }
    }
    return [traces, {
      ...layout,
      showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } },
      dragmode: false, autosize: true,
    }];
  }

  function chart(content, style = null) {
    const area = make("div", { class: "plot", role: "img", "aria-label": `${content.title}. ${content.text}` });
    plots.add({ area, figure: content.figure, drawn: 0 });
    return make("figure", { class: style },
      make("h3", {}, content.title), make("p", { class: "soft" }, content.text), area, legend(content.figure, area),
      unfolded(["The same as a table", make("span", { class: "hidden" }, `: ${content.title}`)],
        () => table(content.table, content.title)));
  }

  const SHAPES = {
    circle: "M8 1.8a4.2 4.2 0 1 0 .01 0z", square: "M4 2h8v8H4z", diamond: "M8 0.8l5.2 5.2-5.2 5.2-5.2-5.2z",
    "triangle-up": "M8 1l5 9H3z", "triangle-down": "M8 11l5-9H3z", cross: "M6.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    x: "M4 3.4L5.4 2 8 4.6 10.6 2 12 3.4 9.4 6 12 8.6 10.6 10 8 7.4 5.4 10 4 8.6 6.6 6z",
    star: "M8 .5l1.6 3.8 4.1.3-3.1 2.7 1 4L8 9.1l-3.6 2.2 1-4L2.300 4.6l4.1-.3z",
  };
  const DASHES = { dash: "5 3", dot: "2 2", dashdot: "5 2 1.5 2" };

  // The names of the lines as buttons: a keyboard reaches them, and each hides and shows its line.
  function legend(figure, area) {
    const named = figure.data.map((trace, at) => [trace, at]).filter(([trace]) => trace.name);
    if (named.length < 2) return "";
    const entry = ([trace, at]) => {
      const colour = `${trace.marker.color}`;
      const sign = draw("svg", { viewBox: "0 0 16 12", width: 18, height: 13, "aria-hidden": "true" });
      if (trace.mode.includes("lines")) {
        const stroke = draw("path", { d: "M0 6H16", "stroke-width": 1.8, "stroke-dasharray": DASHES[trace.line.dash] ?? "none" });
        stroke.style.stroke = colour;
        sign.append(stroke);
      }
      const shape = draw("path", { d: SHAPES[trace.marker.symbol] ?? SHAPES.circle });
      shape.style.fill = colour;
      sign.append(shape);
      const name = document.createElement("span");
      name.textContent = plain(trace.name);
      return make("li", {}, make("button", {
        type: "button", "aria-pressed": "true",
        click: (event) => {
          const button = event.currentTarget;
          const hidden = button.getAttribute("aria-pressed") === "true";
          button.setAttribute("aria-pressed", String(!hidden));
          trace.visible = !hidden;
          Plotly.restyle(area, { visible: !hidden }, [at]);
        },
      }, sign, name));
    };
    return make("ul", { class: "legend" }, named.map(entry));
  }

  const plain = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

  function drawPlots(again = false) {
    for (const plot of plots) {
      if (!plot.area.isConnected) { plots.delete(plot); continue; }
      const width = plot.area.clientWidth;
      if (!width || (plot.drawn === width && !again)) continue;
      const first = !plot.drawn;
      plot.drawn = width;
      plot.area.style.minHeight = "";
      Plotly.react(plot.area, ...dressed(plot.figure, width), { displayModeBar: false, responsive: false });
      if (first) {
        plot.area.on("plotly_click", (event) => {
          const digest = event.points[0].customdata;
          if (prompts.has(digest)) location.hash = digest;
        });
      }
    }
  }

  // --- the library

  const COLUMNS = [
    { key: "task", name: "Task", value: (prompt) => prompt.task },
    { key: "kind", name: "Kind", value: (prompt) => prompt.kind, style: "minor" },
    { key: "score", name: "Score", value: (prompt) => prompt.score, show: percent, style: "number" },
    { key: "frozen", name: "Frozen", value: (prompt) => prompt.frozen, show: percent, style: "number" },
    { key: "gain", name: "Gain", value: gainOf, show: signed, style: "number" },
    { key: "length", name: "Tokens", value: (prompt) => prompt.length, style: "number minor" },
    { key: "bytes", name: "kB", value: (prompt) => prompt.bytes / 1000, show: (value) => value.toFixed(0), style: "number minor" },
    { key: "step", name: "Step", value: (prompt) => prompt.step, style: "number minor" },
    { key: "changed", name: "Written", value: (prompt) => prompt.changed, show: day, style: "minor" },
    { key: "digest", name: "Digest", value: (prompt) => prompt.digest, style: "minor" },
  ];

  function gainOf(prompt) {
    return prompt.score === null || prompt.frozen === null ? null : prompt.score - prompt.frozen;
  }

  function compared(left, right) {
    if (left === null || right === null) return (left === null) - (right === null);
    if (typeof left === "number") return left - right;
    return left.localeCompare(right);
  }

  function shownPrompts() {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const column = COLUMNS.find(({ key }) => key === sorting.key);
    return data.library.prompts
      .filter((prompt) => {
        const text = `${prompt.task} ${prompt.kind} ${prompt.digest} ${prompt.backbone} ${prompt.labels.join(" ")}`.toLowerCase();
        return words.every((word) => text.includes(word));
      })
      .sort((left, right) => {
        const [one, other] = [column.value(left), column.value(right)];
        const missing = one === null || other === null;
        return (sorting.down && !missing ? -1 : 1) * compared(one, other) || compared(left.digest, right.digest);
      });
  }

  function promptRow(prompt) {
    return make("tr", {}, COLUMNS.map(({ key, value, show, style }) => {
      const content = value(prompt);
      const text = show && content !== null ? show(content) : content === null ? "-" : String(content);
      if (key === "task") {
        return make("th", { scope: "row", class: "task" }, make("a", { href: `#${prompt.digest}` }, text));
      }
      const sign = key === "gain" && content !== null ? (content > 0.05 ? " good" : content < -0.05 ? " bad" : "") : "";
      return make("td", { class: `${style ?? ""}${sign}` }, key === "digest" ? make("code", {}, text) : text);
    }));
  }

  function fillTable() {
    const shown = shownPrompts();
    place("prompt-rows").replaceChildren(...shown.map(promptRow));
    place("count").textContent = `${shown.length} of ${data.library.prompts.length} prompts`;
    for (const head of document.querySelectorAll("#prompt-table th[data-key]")) {
      const is = head.dataset.key === sorting.key;
      head.setAttribute("aria-sort", is ? (sorting.down ? "descending" : "ascending") : "none");
    }
  }

  function libraryPanel(panel) {
    const { library } = data;
    panel.append(make("h2", {}, "Library"));
    for (const problem of library.problems) panel.append(make("p", { class: "error" }, problem));
    if (!library.prompts.length) {
      panel.append(make("p", {}, "This library holds no prompts yet. Add one: ",
        make("code", {}, `spot library add PROMPT --library ${library.name}`)));
      return;
    }
    const heads = COLUMNS.map(({ key, name, style }) =>
      make("th", { scope: "col", class: style, "data-key": key, "aria-sort": "none" },
        make("button", {
          type: "button",
          click: () => {
            sorting = { key, down: sorting.key === key ? !sorting.down : (style ?? "").includes("number") };
            fillTable();
          },
        }, name)));
    panel.append(
      make("div", { class: "tools" },
        make("div", {}, make("label", { for: "filter" }, "Filter by task, kind, label or digest"),
          make("input", { id: "filter", type: "search", autocomplete: "off", value: wanted,
            input: (event) => { wanted = event.target.value; fillTable(); } })),
        make("p", { id: "count", class: "soft", role: "status" })),
      make("div", { class: "scroll library", role: "region", tabindex: "0", "aria-label": "Table: prompts" },
        make("table", { id: "prompt-table" },
          make("caption", { class: "hidden" }, "Prompts with their scores in percent beside those of the frozen model"),
          make("thead", {}, make("tr", {}, heads)), make("tbody", { id: "prompt-rows" }))));
    for (const group of library.groups) {
      panel.append(make("h2", {}, library.groups.length > 1 ? `Tasks beside each other: ${group.name}` : "Tasks beside each other"));
      panel.append(make("div", { class: group.size > MANY ? "" : "charts" }, group.charts.map((content) => chart(content))));
    }
  }

  // --- one prompt

  function promptPanel(panel, prompt) {
    const gain = gainOf(prompt);
    panel.append(
      make("p", {}, make("a", { href: "#library" }, "All prompts")),
      make("h2", { id: "prompt-title", tabindex: "-1" }, prompt.task),
      live ? make("p", {}, make("a", { href: `#try/${prompt.digest}` }, "Try this prompt")) : "",
      facts([
        ["score", percent(prompt.score)], ["frozen model alone", percent(prompt.frozen)], ["gain", signed(gain)],
        ["size", `${prompt.length} tokens of width ${prompt.width}, ${(prompt.bytes / 1000).toFixed(0)} kB`],
        ["kind of task", prompt.kind], ["kept from step", prompt.step], ["written", day(prompt.changed)],
        ["digest", make("code", {}, prompt.digest)], ...prompt.facts,
      ]));
    const left = make("section", {}), right = make("section", {});
    panel.append(make("div", { class: "columns" }, left, right));
    if (prompt.scores.length) {
      left.append(make("h3", {}, "Scores"), table({
        columns: ["metric (%)", "prompt", "frozen model", "gain"],
        rows: prompt.scores.map(([metric, score, frozen]) =>
          [metric, percent(score), percent(frozen), score === null || frozen === null ? "-" : signed(score - frozen)]),
      }, "scores"), make("p", { class: "soft" }, "A prompt file holds no scores by class: ",
        make("code", {}, "spot evaluate"), " works them out."));
    }
    left.append(make("h3", {}, "How a row is read"));
    left.append(make("p", {}, prompt.labels.length
      ? `It ranks ${prompt.labels.length} labels: ${shortList(prompt.labels, 12)}.`
      : "It writes its answer as text."));
    if (prompt.fields.length) left.append(make("p", {}, `Fields of a row: ${prompt.fields.join(", ")}.`));
    if (prompt.reading.length) left.append(folded("Reading settings", pairTable(prompt.reading)));
    if (prompt.config.length) left.append(folded("Settings of its run", pairTable(prompt.config)));
    left.append(make("h3", {}, "Use it"), copied(prompt.command, "the command"), copied(prompt.python, "the Python lines"));
    right.append(make("h3", {}, "What it can be compared with"));
    if (prompt.nearest.length) {
      right.append(make("p", { class: "soft" }, "Prompts of the same frozen model whose keys were made by the same recipe, the most similar first (cosine of task embeddings)."));
      const rows = prompt.nearest.map(({ digest, similarity }) => make("tr", {},
        make("th", { scope: "row" }, linkTo(digest)), make("td", { class: "number" }, similarity.toFixed(2))));
      const body = make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "task"),
        make("th", { scope: "col", class: "number" }, "similarity"))), make("tbody", {}, rows.slice(0, 8)));
      right.append(make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Table: comparable prompts" }, body));
      if (rows.length > 8) {
        right.append(make("button", { type: "button", class: "quiet",
          click: (event) => { body.tBodies[0].append(...rows.slice(8)); event.target.remove(); } }, `Show all ${rows.length}`));
      }
      right.append(folded("Recipe of its key", pairTable(prompt.recipe)));
    } else {
      right.append(make("p", {}, prompt.recipe.length
        ? "With no other prompt of this library: none has the same frozen model and key recipe."
        : "With none: it has no key, which a task embedding is read from."));
    }
    panel.append(make("h3", {}, "Lineage"), lineage(prompt));
  }

  const linkTo = (digest) =>
    prompts.has(digest) ? make("a", { href: `#${digest}` }, prompts.get(digest).task) : make("code", {}, digest);
  const nameOf = (digest) => (prompts.has(digest) ? prompts.get(digest).task : digest);
  const folded = (title, ...content) => make("details", {}, make("summary", {}, title), ...content);
  const pairTable = (rows) => table({ columns: ["setting", "value"], rows }, "settings");
  const shortList = (words, most) =>
    words.slice(0, most).join(", ") + (words.length > most ? ` and ${words.length - most} more` : "");

  function lineage(prompt) {
    const from = prompt.parents.length
      ? prompt.parents.map(({ digest, weight }) => ({ name: nameOf(digest), note: `weight ${weight.toFixed(2)}`, digest }))
      : [{ name: prompt.begin, note: prompt.begin === "vocabulary" ? "rows of the embedding" : "initial value" }];
    const means = new Map();
    for (const { target, gain } of prompt.transfers) means.set(target, [...(means.get(target) ?? []), gain]);
    const to = [
      ...prompt.children.map((digest) => ({ name: nameOf(digest), note: "began from it", digest })),
      ...[...means].map(([name, gains]) => ({ name, gain: gains.reduce((sum, gain) => sum + gain, 0) / gains.length }))
        .sort((left, right) => right.gain - left.gain)
        .map(({ name, gain }) => ({ name, note: `${signed(gain)} points` })),
    ];
    const layers = [from, [{ name: prompt.task, note: prompt.digest, self: true }], to.slice(0, 12)].filter((layer) => layer.length);
    const holder = make("div", {});
    const render = () => {
      const width = Math.max(280, holder.clientWidth);
      const gap = width < NARROW ? 22 : 70, height = 46, between = 10;
      const box = Math.min(340, (width - gap * (layers.length - 1) - 2) / layers.length);
      const tall = Math.max(...layers.map((layer) => layer.length * (height + between))) + 4;
      const letters = Math.floor((box - 16) / 7.6);
      const cut = (text) => (text.length > letters ? `${text.slice(0, Math.max(1, letters - 1))}…` : text);
      const middle = (layer, at) => tall / 2 + (at - (layer.length - 1) / 2) * (height + between);
      const parts = [];
      layers.forEach((layer, column) => {
        const x = 1 + column * (box + gap);
        layer.forEach((node, at) => {
          const y = middle(layer, at);
          for (let before = 0; column && before < layers[column - 1].length; before += 1) {
            const start = [x - gap, middle(layers[column - 1], before)];
            parts.push(draw("path", { d: `M${start[0]} ${start[1]}C${x - gap / 2} ${start[1]} ${x - gap / 2} ${y} ${x - 7} ${y}`, "marker-end": "url(#tip)" }));
          }
          const group = draw("g", { class: node.self ? "self" : "" },
            draw("rect", { x, y: y - height / 2, width: box, height, rx: 6 }));
          const first = draw("text", { x: x + 8, y: y - 4 });
          first.textContent = cut(node.name);
          const second = draw("text", { x: x + 8, y: y + 14, class: "note" });
          second.textContent = cut(node.note);
          group.append(first, second);
          parts.push(group);
        });
      });
      const marker = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" },
        draw("path", { d: "M0 0L8 4L0 8z" }));
      holder.replaceChildren(draw("svg", {
        class: "lineage", role: "img", viewBox: `0 0 ${width} ${tall}`,
        "aria-label": `${prompt.task} began from ${from.map(({ name }) => name).join(", ")}`
          + (to.length ? ` and was the start of ${to.map(({ name }) => name).join(", ")}` : ""),
      }, draw("defs", {}, marker), ...parts));
    };
    resized.set("lineage", render);
    requestAnimationFrame(render);
    const text = [make("p", {}, "It began from ", joined(from), ".")];
    if (to.length > 12) text.push(make("p", { class: "soft" }, `The graph shows 12 of ${to.length} tasks that began from it.`));
    text.push(to.length
      ? folded("What began from it", table({ columns: ["task", "what is known"], rows: to.map(({ name, note }) => [name, note]) }, "what began from it"))
      : make("p", { class: "soft" }, "No transfer from it is recorded."));
    return make("div", {}, holder, ...text);
  }

  const joined = (nodes) => nodes.flatMap((node, at) =>
    [at ? ", " : "", node.digest ? linkTo(node.digest) : node.name, node.digest ? ` (${node.note})` : ""]);
  const resized = new Map(); // what to draw again when the window has another size

  // --- transfers and studies

  function transfersPanel(panel) {
    panel.append(make("h2", {}, "Transfers"), ...problems());
    if (data.library.history) panel.append(chart(data.library.history));
    for (const transfer of data.transfers) {
      panel.append(make("h2", {}, transfer.target ? `To ${transfer.target}` : transfer.name));
      panel.append(make("p", { class: "soft" }, `Folder ${transfer.name}. ${transfer.running ? "It goes on: this page follows." : ""}`));
      for (const problem of transfer.problems) panel.append(make("p", { class: "error" }, problem));
      panel.append(table(transfer.table, `runs of ${transfer.name}`));
      panel.append(...transfer.charts.map((content) => chart(content)));
    }
    if (!data.library.history && !data.transfers.length) panel.append(make("p", {}, "No transfers are known here."));
  }

  const problems = () => data.problems.map((problem) => make("p", { class: "error" }, problem));

  function studiesPanel(panel) {
    panel.append(...problems());
    for (const [number, study] of data.studies.entries()) {
      panel.append(make("h2", {}, `Study ${study.name}`), make("p", {}, study.verdict));
      if (study.all) {
        const parts = [make("progress", { max: study.all, value: study.done, "aria-label": `finished cells of ${study.name}` }),
          ` ${study.done} of ${study.all} cells are finished. ${study.running ? "It goes on: this page follows." : ""}`];
        panel.append(make("p", {}, ...parts));
        panel.append(folded("Cells by kind", table(study.progress.cells, "cells by kind")));
        if (study.progress.running.rows.length) panel.append(table(study.progress.running, "at work"));
      }
      panel.append(make("div", { class: "charts" }, study.charts.map((content, at) => chart(content, at ? null : "tall"))));
      if (study.curves.length) {
        const id = `curves-${number}`;
        const area = make("div", {});
        const show = (at) => {
          choices.set(id, study.curves[at].label);
          area.replaceChildren(chart(study.curves[at].chart));
          drawPlots();
        };
        const chosen = Math.max(0, study.curves.findIndex(({ label }) => label === choices.get(id)));
        const select = make("select", { id, change: (event) => show(Number(event.target.value)) },
          study.curves.map(({ label }, at) => make("option", { value: at, selected: at === chosen }, label)));
        panel.append(make("div", { class: "tools" }, make("div", {}, make("label", { for: id }, "Learning curves of the target"), select)), area);
        show(chosen);
      }
    }
    if (!data.studies.length) panel.append(make("p", {}, "No study is shown here. Name one: ", make("code", {}, "--study study.toml")));
  }

  // --- try it

  const asking = { left: "", right: "", two: false, texts: new Map(), stop: null };

  function targetOf(name) {
    if (name === "base") return { digest: "base", task: "the frozen model alone", decode: "generate", fields: ["text"], template: null };
    return prompts.get(name);
  }

  const fieldsOf = (target) => (target.fields.length === 1 ? ["text"] : target.fields.length ? target.fields : ["row as JSON"]);

  function tryPanel(panel) {
    if (!prompts.has(asking.left) && asking.left !== "base") asking.left = data.library.prompts[0]?.digest ?? "base";
    if (!prompts.has(asking.right) && asking.right !== "base") asking.right = data.library.prompts[1]?.digest ?? "base";
    const form = make("form", { submit: (event) => { event.preventDefault(); ask(); } });
    const sides = () => (asking.two ? ["left", "right"] : ["left"]);
    const models = make("div", { class: "columns" }), fields = make("div", {}), answers = make("div", { id: "answers", class: "columns", "aria-live": "polite" });
    const request = make("div", { id: "request" });
    panel.append(make("h2", {}, "Try it"), form, answers, request);
    const go = make("button", { type: "submit", class: "do" }, "Ask");
    const stop = make("button", { type: "button", class: "quiet", hidden: true, click: () => asking.stop?.abort() }, "Stop");
    const number = (id, label, value, attributes) =>
      make("div", {}, make("label", { for: id }, label), make("input", { id, class: "short", type: "number", value, ...attributes }));
    const sampling = make("div", { class: "tools" }, number("max-tokens", "Most tokens", 64, { min: 1, max: 4096 }),
      number("temperature", "Temperature", 0, { min: 0, max: 2, step: 0.1 }));
    form.append(models,
      make("div", { class: "check" }, make("input", { type: "checkbox", id: "two", checked: asking.two,
        change: (event) => { asking.two = event.target.checked; refresh(); } }), make("label", { for: "two" }, "Ask two side by side")),
      fields, sampling, make("div", { class: "tools" }, go, stop));

    function choice(side, label) {
      const id = `model-${side}`;
      const options = [...prompts.values()].map((prompt) => [prompt.digest, `${prompt.task} (${prompt.digest.slice(0, 6)})`]);
      options.push(["base", "base: the frozen model alone"]);
      return make("div", { class: "field" }, make("label", { for: id }, label),
        make("select", { id, change: (event) => { asking[side] = event.target.value; refresh(id); } },
          options.map(([value, name]) => make("option", { value, selected: value === asking[side] }, name))));
    }

    function refresh(focus) {
      asking.stop?.abort(); // an answer to what was chosen before has no place any more
      models.replaceChildren(choice("left", asking.two ? "First prompt" : "Prompt"), ...(asking.two ? [choice("right", "Second prompt")] : []));
      const names = [...new Set(sides().flatMap((side) => fieldsOf(targetOf(asking[side]))))];
      fields.replaceChildren(...names.map((name, at) => make("div", { class: "field" },
        make("label", { for: `field-${at}` }, name === "text" ? "Text" : name),
        make("textarea", { id: `field-${at}`, rows: 3, spellcheck: "false", input: (event) => { asking.texts.set(name, event.target.value); showRequest(); } },
          asking.texts.get(name) ?? ""))));
      sampling.hidden = sides().every((side) => targetOf(asking[side]).decode === "rank");
      answers.replaceChildren();
      showRequest();
      if (focus) place(focus)?.focus();
    }

    function requestOf(side) {
      const target = targetOf(asking[side]);
      const names = fieldsOf(target);
      const value = (name) => asking.texts.get(name) ?? "";
      let input = value(names[0]);
      if (names[0] === "row as JSON") {
        input = JSON.parse(input);
      } else if (names.length > 1) {
        input = Object.fromEntries(names.map((name) => [name, value(name)]));
      }
      if (target.decode === "rank") return ["/v1/classify", { model: target.digest, input }];
      const filled = target.template && typeof input === "object"
        ? target.template.map(([before, field]) => before + (field ? input[field] : "")).join("")
        : typeof input === "object" ? Object.values(input).join("\n") : input;
      return ["/v1/completions", {
        model: target.digest, prompt: filled, max_tokens: Number(place("max-tokens").value),
        temperature: Number(place("temperature").value), stream: true,
      }];
    }

    function showRequest() {
      let path, body;
      try {
        [path, body] = requestOf("left");
      } catch {
        request.replaceChildren();
        return;
      }
      const json = JSON.stringify(body);
      const quoted = `'${json.replaceAll("'", "'\\''")}'`;
      const head = token ? ` \\\n  -H "Authorization: Bearer $SPOT_TOKEN"` : "";
      const curl = `curl -sN ${location.origin}${path}${head} \\\n  -H "Content-Type: application/json" \\\n  -d ${quoted}`;
      const key = token ? 'os.environ["SPOT_TOKEN"]' : '"none"';
      const python = path === "/v1/classify"
        ? `import json${token ? ", os" : ""}, urllib.request\n\nrequest = urllib.request.Request(\n    "${location.origin}${path}",\n    json.dumps(${pythonOf(body)}).encode(),\n    {"Content-Type": "application/json"${token ? `, "Authorization": "Bearer " + ${key}` : ""}},\n)\nprint(json.load(urllib.request.urlopen(request))["data"][0])`
        : `${token ? "import os\n\n" : ""}from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key=${key})\nfor part in client.completions.create(**${pythonOf(body)}):\n    print(part.choices[0].text, end="", flush=True)`;
      request.replaceChildren(make("h3", {}, asking.two ? "The first request as curl and Python" : "The request as curl and Python"),
        copied(curl, "curl"), copied(python, "Python"));
    }

    async function ask() {
      asking.stop = new AbortController();
      go.disabled = true;
      stop.hidden = false;
      answers.replaceChildren(...sides().map((side) => make("section", { class: "answer", id: `answer-${side}` },
        make("h3", {}, targetOf(asking[side]).task), make("p", { class: "soft" }, "Asking..."))));
      await Promise.all(sides().map((side) => answer(side, place(`answer-${side}`), asking.stop.signal)));
      go.disabled = false;
      stop.hidden = true;
    }

    async function answer(side, area, signal) {
      const title = area.firstChild;
      area.setAttribute("aria-busy", "true"); // read out when it is whole, not piece by piece
      const begin = performance.now();
      const took = () => `${Math.round(performance.now() - begin)} ms`;
      try {
        const [path, body] = requestOf(side);
        const response = await send(path, { body, signal });
        if (path === "/v1/classify") {
          const value = await response.json();
          const [{ label, probabilities, truncated }] = value.data;
          area.replaceChildren(title, ...(typeof label === "string"
            ? [make("p", {}, "Label: ", make("strong", {}, label)), bars(probabilities, label)]
            : [make("p", {}, "The model gives no answer to this text.")]),
          make("p", { class: "soft" }, [took(), usage(value.usage), truncated ? `${truncated} tokens did not fit` : ""].filter(Boolean).join(", ")));
        } else {
          await stream(response, area, title, took);
        }
      } catch (error) {
        const text = error.name === "AbortError" ? "Stopped." : error instanceof SyntaxError ? `The row is no JSON: ${error.message}` : error.message;
        area.append(make("p", { class: "error" }, text));
      }
      area.removeAttribute("aria-busy");
    }

    refresh();
  }

  const usage = (value) => (value?.prompt_tokens ? `${value.prompt_tokens} input tokens` : "");

  function bars(probabilities, best) {
    const rows = Object.entries(probabilities ?? {}).sort((left, right) => right[1] - left[1]);
    const row = ([label, share]) => {
      const bar = make("span", {});
      bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
      return make("tr", { class: label === best ? "best" : null }, make("th", { scope: "row" }, label),
        make("td", { class: "bar" }, bar), make("td", { class: "number" }, `${(share * 100).toFixed(1)} %`));
    };
    return make("table", { class: "bars" }, make("caption", { class: "hidden" }, "Probability of each label"),
      make("thead", { class: "hidden" }, make("tr", {}, ["label", "bar", "probability"].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, rows.slice(0, 20).map(row)));
  }

  async function stream(response, area, title, took) {
    const text = make("pre", { class: "stream" });
    const timing = make("p", { class: "soft" });
    area.replaceChildren(title, text, timing);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", first = "", pieces = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const line = event.split("\n").filter((part) => part.startsWith("data:")).map((part) => part.slice(5).trim()).join("");
        if (!line || line === "[DONE]") continue;
        const part = JSON.parse(line);
        if (part.error) throw new Error(part.error.message ?? String(part.error));
        first ||= took();
        pieces += 1;
        text.append(part.choices?.[0]?.text ?? "");
      }
    }
    timing.textContent = `${took()}, the first piece after ${first || "-"}, ${pieces} pieces`;
  }

  // --- the server

  async function send(path, { body = null, signal = undefined } = {}) {
    const headers = body ? { "Content-Type": "application/json" } : {};
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, credentials: "omit" });
    if (response.ok) return response;
    let message = `${response.status} ${response.statusText}`;
    try {
      message = (await response.json()).error.message;
    } catch { /* no error of ours: the status says what there is */ }
    const error = new Error(message);
    error.status = response.status;
    throw error;
  }

  const pythonOf = (value) => {
    if (value === null) return "None";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (Array.isArray(value)) return `[${value.map(pythonOf).join(", ")}]`;
    if (typeof value === "object") return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${pythonOf(part)}`).join(", ")}}`;
    return JSON.stringify(value);
  };

  function tokenForm(message) {
    const input = make("input", { id: "token", type: "password", autocomplete: "off", required: true });
    return make("form", {
      submit: (event) => { event.preventDefault(); token = input.value.trim(); load(); },
    }, make("h2", {}, "This server wants a token"),
    make("p", { class: message ? "error" : "soft", role: message ? "alert" : null }, message || "It is kept in this page's memory alone."),
    make("div", { class: "tools" }, make("div", {}, make("label", { for: "token" }, "Token"), input),
      make("button", { class: "do", type: "submit" }, "Go on")));
  }

  async function load() {
    try {
      data = await (await send("/page/data.json")).json();
      say("");
      start();
    } catch (error) {
      const wrong = error.status === 401 || error.status === 403;
      place("panels").replaceChildren(wrong ? tokenForm(token ? error.message : "") : make("p", { class: "error" }, error.message));
    }
  }

  async function poll() {
    const looks = data && !document.hidden && ["studies", "transfers"].includes(route().tab);
    if (looks) {
      try {
        const fresh = await (await send("/page/progress.json")).json();
        if (fresh.stamp !== data.stamp) {
          Object.assign(data, fresh);
          const focus = document.activeElement?.id;
          const open = [...document.querySelectorAll("#panels details")].map((part) => part.open);
          const at = window.scrollY;
          show(false);
          [...document.querySelectorAll("#panels details")].forEach((part, number) => { part.open = Boolean(open[number]); });
          window.scrollTo({ top: at, behavior: "instant" });
          if (focus) place(focus)?.focus({ preventScroll: true });
          say(`Updated ${new Date().toLocaleTimeString()}.`);
        }
      } catch (error) {
        say(`The server does not answer: ${error.message}`);
      }
    }
    setTimeout(poll, POLL);
  }

  // --- the parts of the page, by the address

  const TABS = [
    { id: "library", name: "Library", there: () => true, fill: libraryPanel },
    { id: "try", name: "Try it", there: () => live, fill: tryPanel },
    { id: "transfers", name: "Transfers", there: () => live || data.transfers.length || data.library.history, fill: transfersPanel },
    { id: "studies", name: "Studies", there: () => live || data.studies.length, fill: studiesPanel },
  ];

  function route() {
    let hash = location.hash.slice(1);
    try { hash = decodeURIComponent(hash); } catch { /* no address of ours */ }
    if (prompts.has(hash)) return { tab: "library", prompt: prompts.get(hash) };
    const [tab, digest] = hash.split("/");
    const known = TABS.find(({ id, there }) => id === tab && there());
    return { tab: known ? known.id : "library", digest, unknown: Boolean(hash) && !known };
  }

  function show(isNew = true) {
    const { tab, prompt, digest, unknown } = route();
    if (tab === "try" && prompts.has(digest)) asking.left = digest;
    for (const button of document.querySelectorAll("#tabs button")) {
      const is = button.dataset.tab === tab;
      button.setAttribute("aria-selected", String(is));
      button.tabIndex = is ? 0 : -1;
    }
    resized.delete("lineage");
    asking.stop?.abort();
    const panel = make("div", { id: "panel", role: "tabpanel", "aria-labelledby": `tab-${tab}` });
    place("panels").replaceChildren(panel);
    if (unknown && isNew && location.hash !== "#main") say("There is nothing at this address: here is the library.");
    if (prompt) promptPanel(panel, prompt);
    else TABS.find(({ id }) => id === tab).fill(panel);
    if (tab === "library" && !prompt && data.library.prompts.length) fillTable();
    drawPlots();
    if (prompt && isNew) {
      window.scrollTo({ top: 0, behavior: "instant" });
      place("prompt-title").focus({ preventScroll: true });
    }
  }

  function start() {
    prompts = new Map(data.library.prompts.map((prompt) => [prompt.digest, prompt]));
    place("library-name").textContent = data.library.name;
    const models = [...new Set(data.library.prompts.map(({ backbone }) => backbone))];
    const count = data.library.prompts.length;
    place("summary").textContent = count
      ? `${count} ${count === 1 ? "prompt" : "prompts"} of the frozen ${models.length === 1 ? "model" : "models"} ${shortList(models, 3)}`
      : "no prompts";
    const tabs = TABS.filter(({ there }) => there());
    const go = (at) => {
      location.hash = tabs[(at + tabs.length) % tabs.length].id;
      place(`tab-${tabs[(at + tabs.length) % tabs.length].id}`).focus();
    };
    place("tabs").replaceChildren(...tabs.map(({ id, name }, at) => make("button", {
      type: "button", role: "tab", id: `tab-${id}`, "data-tab": id, "aria-controls": "panel",
      click: () => { location.hash = id; },
      keydown: (event) => {
        const step = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        go(step);
      },
    }, name)));
    show();
  }

  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { drawPlots(); resized.forEach((render) => render()); }, 120);
  });
  window.addEventListener("hashchange", () => { if (data && location.hash !== "#main") { say(""); show(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawPlots(true));

  const inline = place("data");
  if (inline) {
    data = JSON.parse(inline.textContent);
    start();
  } else {
    load();
  }
  if (live) setTimeout(poll, POLL);
})();
