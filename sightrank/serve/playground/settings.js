// What may differ between two rankings: the model, how large images are shown, where documents are cut.

import { element } from "./view.js";

const PIXELS_A_TOKEN = 28 * 28;
const SHARES = [1, 2, 4, 8, 16];
const LENGTHS = [2048, 512, 128, 32];

/** The fields of `count` sides, which keep what was chosen before. */
export function fields(facts, count, chosen) {
  return Array.from({ length: count }, (_, number) => side(facts, number, count > 1, chosen[number] ?? {}));
}

function side(facts, number, named, chosen) {
  const name = named ? "AB"[number] : "";
  const { models } = facts;
  const model = select(`model-${number}`, models.map((each) => [each.name, each.name]), chosen.model);
  const pixels = select(`pixels-${number}`);
  const tokens = select(`tokens-${number}`);
  const limit = (wanted) => { // each model has limits of its own
    fill(pixels, pixelChoices(models[model.selectedIndex]), wanted.max_pixels);
    fill(tokens, tokenChoices(models[model.selectedIndex]), wanted.max_tokens_per_doc);
  };
  limit(chosen);
  model.addEventListener("change", () => limit(read(number)));
  const label = (text, field) => {
    const unseen = named ? element("span", { class: "unseen" }, ` in ${name}`) : null;
    return element("label", {}, element("span", {}, text, unseen), field);
  };
  return element(
    "div",
    { class: "side" },
    named ? element("h3", {}, name) : null,
    models.length > 1 ? label("Model", model) : null,
    label("Images at most", pixels),
    label("Texts at most", tokens),
  );
}

/** What a side asks for: the model where there are several, and what differs from its own limits. */
export function read(number) {
  const asked = {};
  const model = document.getElementById(`model-${number}`)?.value;
  if (model) asked.model = model;
  const pixels = document.getElementById(`pixels-${number}`)?.value;
  const tokens = document.getElementById(`tokens-${number}`)?.value;
  if (pixels) asked.max_pixels = Number(pixels);
  if (tokens) asked.max_tokens_per_doc = Number(tokens);
  return asked;
}

/** A side in words. */
export function told(asked) {
  const said = asked.model ? [asked.model] : [];
  if (asked.max_pixels) said.push(`images up to ${Math.floor(asked.max_pixels / PIXELS_A_TOKEN)} tokens`);
  if (asked.max_tokens_per_doc) said.push(`texts up to ${asked.max_tokens_per_doc} tokens`);
  return said.join(", ") || "the server's own limits";
}

function pixelChoices(limits) {
  return SHARES.map((share) => Math.floor(limits.max_pixels / share / PIXELS_A_TOKEN) * PIXELS_A_TOKEN)
    .filter((pixels, place) => !place || pixels >= limits.min_pixels)
    .map((pixels, place) => [place ? pixels : "", `${Math.floor(pixels / PIXELS_A_TOKEN)} tokens`]);
}

function tokenChoices(limits) {
  const shorter = LENGTHS.filter((length) => length < limits.max_tokens_per_doc);
  const own = ["", `${limits.max_tokens_per_doc.toLocaleString("en")} tokens`];
  return [own, ...shorter.map((length) => [length, `${length.toLocaleString("en")} tokens`])];
}

function select(id, choices = [], chosen = "") {
  const made = element("select", { id });
  fill(made, choices, chosen);
  return made;
}

function fill(select, choices, chosen = "") {
  select.replaceChildren(...choices.map(([value, label]) => element("option", { value: String(value) }, label)));
  select.value = String(chosen);
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}
