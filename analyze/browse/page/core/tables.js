"use strict";
/** The list as files: all columns of the latents that are listed, under the keys of the index. */
Page.tables = (() => {
  /** The list as records: all columns, under the keys of the index. */
  function records(latents) {
    const all = Page.data.index().columns.map((column) => Page.concepts.column(column.key));
    return Array.from(latents, (latent) =>
      Object.fromEntries([
        ["latent", latent],
        ...all.map((column) => {
          const value = column.texts ? Page.concepts.text(column.key, latent) || null : column.numbers[latent];
          return [column.key, Number.isNaN(value) ? null : value];
        }),
      ]),
    );
  }

  function csv(latents) {
    const rows = records(latents);
    const keys = ["latent", ...Page.data.index().columns.map((column) => column.key)];
    // A text that begins like a formula would be one to spreadsheet programs.
    const field = (value) => {
      const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [keys, ...rows.map((record) => keys.map((key) => record[key]))]
      .map((line) => line.map(field).join(","))
      .join("\r\n");
  }

  const json = (latents) => JSON.stringify(records(latents), null, 1);

  return { csv, json };
})();
