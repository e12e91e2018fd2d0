"use strict";
/** The controls beside the list: kind, class, ranges with histograms, columns. They change the address, nothing else. */
Page.filters = (() => {
  const { h, words, count, number, button } = Page.dom;
  const BINS = 24;
  const GROUPS = ["sharing", "size", "meaning", "stream share", "stability", "joint"];

  function draw(question) {
    return h(
      "details.filters",
      { open: matchMedia("(min-width: 900px)").matches },
      h("summary", "Filters and columns"),
      kinds(question),
      classes(question),
      switches(question),
      ranges(question),
      columns(),
    );
  }

  /** What a latent must be: shared, of one stream only, lacking in one. */
  function kinds(question) {
    const streams = Page.concepts.names();
    if (streams.length < 2) return null;
    const choices = [
      ["", "", "any"],
      ["shared", "", `shared by ${streams.length === 2 ? "both" : "all"}`],
      ...streams.map((name) => ["only", name, `only ${name}`]),
      ...(streams.length > 2 ? streams.map((name) => ["lacking", name, `all but ${name}`]) : []),
      ["only", "", "only one, whichever"],
      ...(streams.length > 2 ? [["lacking", "", "lacking in one, whichever"]] : []),
    ];
    const select = h(
      "select",
      {
        id: "kind",
        on: {
          change: (event) => {
            const [is, stream] = choices[event.target.selectedIndex];
            Page.route.set({ is, stream });
          },
        },
      },
      choices.map(([is, stream, label]) =>
        h("option", { selected: is === question.is && stream === question.stream }, Page.dom.clean(label, 60)),
      ),
    );
    return h("label.field", h("span", "Which streams have it"), select);
  }

  function classes(question) {
    const { classes: names } = Page.data.index();
    if (!names.length) return null;
    const input = h("input", {
      type: "search",
      list: "classes",
      placeholder: "any class",
      value: question.class,
      autocomplete: "off",
      on: {
        change: (event) => Page.route.set({ class: event.target.value.trim() }),
      },
    });
    return h(
      "label.field",
      h("span", "Goes with the class"),
      input,
      h(
        "datalist",
        { id: "classes" },
        names.slice(0, 2000).map((name) => h("option", { value: name })),
      ),
    );
  }

  function switches(question) {
    const dead = Page.concepts.deadCount();
    const check = (label, key, on) =>
      h(
        "label.check",
        h("input", {
          type: "checkbox",
          checked: on,
          on: { change: (event) => Page.route.set({ [key]: event.target.checked ? "1" : null }) },
        }),
        label,
      );
    return h(
      "div.checks",
      dead ? check(`show the ${count(dead)} dead`, "dead", question.dead) : null,
      check("my bookmarks only", "marked", question.marked),
      question.lasso ? button("Remove the lasso of the map", () => Page.route.set({ lasso: null })) : null,
    );
  }

  const ranged = () =>
    Page.data
      .index()
      .columns.filter(
        (column) => ["share", "signed", "count", "number"].includes(column.kind) && column.key !== "tiles",
      );

  function ranges(question) {
    const kept = Page.query.select({ ...question, ranges: [] });
    return GROUPS.map((group) => {
      const keys = ranged().filter((column) => column.group === group);
      if (!keys.length) return null;
      const active = keys.some((column) => question.ranges.some((range) => range.key === column.key));
      const section = h("details.range-group", { open: active || group === "sharing" }, h("summary", group));
      const body = () => {
        if (section.open && section.children.length === 1)
          section.append(...keys.map((column) => range(column, question, kept)));
      };
      section.addEventListener("toggle", body);
      body();
      return section;
    });
  }

  /** A range of one column: a histogram of what the other filters leave, and two numbers. */
  function range(column, question, kept) {
    const { numbers } = Page.concepts.column(column.key);
    const histogram = Page.histograms.counts(numbers, BINS, kept);
    const now = question.ranges.find((one) => one.key === column.key) ?? { low: -Infinity, high: Infinity };
    const write = (change) => {
      const next = { ...now, ...change };
      const others = Page.route
        .read()
        .params.getAll("f")
        .filter((part) => !part.startsWith(`${column.key}:`));
      const text = (value) => (Number.isFinite(value) ? String(value) : "");
      const open = !Number.isFinite(next.low) && !Number.isFinite(next.high);
      Page.route.set({
        f: open ? others : [...others, `${column.key}:${text(next.low)}..${text(next.high)}`],
      });
    };
    const field = (end, label, otherwise) =>
      h("input", {
        type: "text",
        inputmode: "decimal",
        "aria-label": `${column.label}, ${label}`,
        placeholder: number(otherwise, 2),
        value: Number.isFinite(now[end]) ? String(now[end]) : "",
        on: {
          change: (event) => {
            const value = Number.parseFloat(event.target.value.replace(",", ".").replace("−", "-"));
            write({ [end]: Number.isFinite(value) ? value : end === "low" ? -Infinity : Infinity });
          },
        },
      });
    return h(
      "fieldset.range",
      { "data-key": column.key },
      h(
        "legend",
        { title: column.help },
        column.stream ? Page.figures.stream(column.stream) : null,
        words(column.label, 40),
      ),
      brush(histogram, now, write),
      h("div.ends", field("low", "at least", histogram.low), "to", field("high", "at most", histogram.high)),
    );
  }

  /** Drag over the histogram to choose a range; a click removes it. */
  function brush(histogram, now, write) {
    const area = h(
      "div.brush",
      { title: "Drag to choose a range" },
      Page.histograms.bars(histogram, now),
      h("i.brushed", { hidden: true }),
    );
    let from = null;
    const at = (event) => {
      const box = area.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    };
    const value = (part) => Number((histogram.low + part * (histogram.high - histogram.low)).toPrecision(3));
    area.addEventListener("pointerdown", (event) => {
      from = at(event);
    });
    area.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const [low, high] = [from, at(event)].sort((a, b) => a - b);
      const mark = area.querySelector(".brushed");
      mark.hidden = false;
      mark.style.left = `${low * 100}%`;
      mark.style.width = `${(high - low) * 100}%`;
    });
    const end = (event) => {
      if (from === null) return;
      const [low, high] = [from, at(event)].sort((a, b) => a - b);
      from = null;
      write(high - low < 0.02 ? { low: -Infinity, high: Infinity } : { low: value(low), high: value(high) });
    };
    area.addEventListener("pointerup", end);
    area.addEventListener("pointerleave", end);
    return area;
  }

  function columns() {
    const shown = new Set(Page.rows.columns().map((column) => column.key));
    const toggle = (key, on) => {
      if (on) shown.add(key);
      else shown.delete(key);
      Page.route.set({
        cols:
          Page.rows
            .choosable()
            .map((column) => column.key)
            .filter((one) => shown.has(one))
            .join(",") || "none",
      });
    };
    return h(
      "details.chooser",
      h("summary", "columns of the list"),
      Page.rows.choosable().map((column) =>
        h(
          "label.check",
          { title: column.help },
          h("input", {
            type: "checkbox",
            checked: shown.has(column.key),
            on: { change: (event) => toggle(column.key, event.target.checked) },
          }),
          column.stream ? Page.figures.stream(column.stream) : null,
          words(column.label, 40),
          column.mode === "joint" ? h("small.mode", "joint") : null,
        ),
      ),
      button("As at first", () => Page.route.set({ cols: null })),
    );
  }

  return { draw };
})();
