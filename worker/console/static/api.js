// What is asked of the console, and how changes are heard of.

import { inWords } from "./words.js";

const SILENT_MS = 15_000; // the console says something every 5 s
const AGAIN_MS = 1500;

let token = localStorage.getItem("token");
export let reviewer = null;

export class Refused extends Error {
  constructor(status, { error, code, values }, otherwise) {
    super(inWords(error ?? otherwise, code, values));
    this.status = status;
    this.code = code;
  }
}

async function ask(address, options = {}) {
  const answer = await fetch(address, { cache: "no-store", ...options });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body, answer.statusText);
  return body;
}

const signed = () => ({ Authorization: `Bearer ${token}`, "Content-Type": "application/json" });

export function address(id, what = "", query = "") {
  return `/api/results/${encodeURIComponent(id)}${what && `/${what}`}${query}`;
}

export const result = (id) => ask(address(id));
export const extent = (id) => ask(address(id, "extent"));
export const explanation = (id) => ask(address(id, "explanation"));

export function results(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return ask(`/api/results?${new URLSearchParams(given)}`);
}

/** Why a picture is not there, as what the console refuses; null where it is by now. */
export async function whyNot(url) {
  try {
    await ask(url);
  } catch (error) {
    return error;
  }
  return null;
}

/** Give a token; whose it is, is known then. */
export async function signIn(given) {
  if (given !== undefined) token = given;
  if (!token) return null;
  try {
    reviewer = (await ask("/api/session", { method: "POST", headers: signed() })).name;
    localStorage.setItem("token", token);
  } catch (error) {
    if (error.status === 403) signOut();
    throw error;
  }
  return reviewer;
}

export function signOut() {
  token = reviewer = null;
  localStorage.removeItem("token");
}

/** Say of results what they really are: {ids, verdict, product, region}. */
export function judge(said) {
  return ask("/api/feedback", { method: "POST", headers: signed(), body: JSON.stringify(said) });
}

/** Hear of every change, for ever: `onState` gets summaries, `onLost` is told when the console is gone. */
export function listen(onState, onLost) {
  let source;
  let watch;
  const beat = () => {
    clearTimeout(watch);
    watch = setTimeout(again, SILENT_MS);
  };
  const again = () => {
    source.close();
    clearTimeout(watch);
    onLost();
    watch = setTimeout(open, AGAIN_MS);
  };
  const open = () => {
    source = new EventSource("/api/events");
    source.addEventListener("state", (event) => {
      beat();
      onState(JSON.parse(event.data));
    });
    source.addEventListener("beat", beat);
    source.addEventListener("error", again);
    beat();
  };
  open();
}
