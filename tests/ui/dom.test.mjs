// What no element may have.

import assert from "node:assert/strict";
import { test } from "node:test";

import { setAttribute } from "../../airflow_torchx/ui/static/dom.js";

test("an attribute that runs code or loads something is refused", () => {
  for (const name of ["onclick", "href", "src", "srcdoc", "style", "formaction", "xlink:href", "data-x onclick", "idx"]) {
    assert.throws(() => setAttribute(null, name, "x"), new TypeError(`attribute ${name} is not allowed`));
  }
});
