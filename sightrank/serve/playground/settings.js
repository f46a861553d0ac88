// What may differ between two rankings: how large images are shown, and where documents are cut.

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
  const pixels = select(`pixels-${number}`, pixelChoices(facts), chosen.max_pixels);
  const tokens = select(`tokens-${number}`, tokenChoices(facts), chosen.max_tokens_per_doc);
  const unseen = named ? element("span", { class: "unseen" }, ` in ${name}`) : null;
  return element(
    "div",
    { class: "side" },
    named ? element("h3", {}, name) : null,
    element("label", {}, element("span", {}, "Images at most", unseen), pixels),
    element("label", {}, element("span", {}, "Texts at most", unseen?.cloneNode(true)), tokens),
  );
}

/** What a side asks for: only what differs from the server's own limits. */
export function read(number) {
  const asked = {};
  const pixels = document.getElementById(`pixels-${number}`)?.value;
  const tokens = document.getElementById(`tokens-${number}`)?.value;
  if (pixels) asked.max_pixels = Number(pixels);
  if (tokens) asked.max_tokens_per_doc = Number(tokens);
  return asked;
}

/** A side in words. */
export function told(asked) {
  const said = [];
  if (asked.max_pixels) said.push(`images up to ${Math.floor(asked.max_pixels / PIXELS_A_TOKEN)} tokens`);
  if (asked.max_tokens_per_doc) said.push(`texts up to ${asked.max_tokens_per_doc} tokens`);
  return said.join(", ") || "the server's own limits";
}

function pixelChoices(facts) {
  return SHARES.map((share) => Math.floor(facts.max_pixels / share / PIXELS_A_TOKEN) * PIXELS_A_TOKEN)
    .filter((pixels, place) => !place || pixels >= facts.min_pixels)
    .map((pixels, place) => [place ? pixels : "", `${Math.floor(pixels / PIXELS_A_TOKEN)} tokens`]);
}

function tokenChoices(facts) {
  const shorter = LENGTHS.filter((length) => length < facts.max_tokens_per_doc);
  const own = ["", `${facts.max_tokens_per_doc.toLocaleString("en")} tokens`];
  return [own, ...shorter.map((length) => [length, `${length.toLocaleString("en")} tokens`])];
}

function select(id, choices, chosen) {
  const made = element("select", { id }, ...choices.map(([value, label]) => element("option", { value: String(value) }, label)));
  made.value = String(chosen ?? "");
  if (made.selectedIndex < 0) made.selectedIndex = 0;
  return made;
}
