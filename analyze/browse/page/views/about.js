"use strict";
/** Where all this comes from: report, run, cache, command, versions, what was left out; and what every column means. */
Page.about = (() => {
  const { h, words, button, count } = Page.dom;

  async function draw(main) {
    const { report, notes, command, images, title, version, columns } = Page.data.index();
    const facts = [
      ["report", report.location],
      ["run", report.run],
      ["cache", report.cache],
      ["dataset", report.dataset],
      ["recipe", report.recipe],
      ["rows", count(report.rows)],
      ["images", count(report.images)],
      ["latents", count(report.latents)],
      ["k, latents of a row", count(report.k)],
      ["classes", report.classes ? count(report.classes) : "none"],
      ["captions", report.captions ? "yes" : "none"],
      ["format of the site", String(version)],
    ];
    main.append(
      h("div.list-head", h("h1", "About"), h("p.counts", words(title, 100))),
      section(
        "The command that made this page",
        h(
          "div.command",
          h("code", words(command, 2000)),
          button("Copy", () => Page.dom.copy(command)),
        ),
      ),
      section(
        "What was left out",
        notes.length || images.dropped
          ? h(
              "ul.remarks",
              [...notes, images.dropped].filter(Boolean).map((note) => h("li", words(note, 600))),
            )
          : h("p", "Nothing."),
      ),
      section("The report", list(facts)),
      section("Versions", list(Object.entries(report.versions))),
      section(
        "What the columns mean",
        h(
          "dl.columns-help",
          columns
            .filter((column) => column.help)
            .map((column) => [
              h(
                "dt",
                column.stream ? Page.figures.stream(column.stream) : null,
                words(column.label, 60),
                column.mode ? h("small.mode", column.mode) : null,
              ),
              h("dd", words(column.help, 300)),
            ]),
        ),
      ),
    );
  }

  const section = (title, ...content) => h("section.panel", h("h2", title), content);
  const list = (facts) =>
    h(
      "dl.facts-list",
      facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => [
          h("dt", words(name, 40)),
          h("dd", words(typeof value === "object" ? JSON.stringify(value) : value, 300)),
        ]),
    );

  return { draw };
})();
