// @ts-nocheck: the host's React and router have no types here.
/**
 * What Airflow loads: a component of the host's own React around `<torchx-view>`.
 *
 * It knows of the host only three functions of React and two of its router.
 */

import "./view.js";

const { createElement, useEffect, useRef } = globalThis.React;
const { useLocation, useNavigate } = globalThis.ReactRouterDOM;

function TorchX({ dagId, runId, taskId, mapIndex }) {
  const view = useRef(null);
  const navigate = useNavigate();
  const { pathname, search } = useLocation();
  useEffect(() => {
    const open = (event) => {
      event.preventDefault();
      navigate(`/${event.detail}`);
    };
    const filter = (event) => {
      event.preventDefault();
      navigate(`${pathname}${event.detail}`);
    };
    // React has emptied the reference when it cleans up after an element that is gone.
    const element = view.current;
    element.addEventListener("torchx-open", open);
    element.addEventListener("torchx-search", filter);
    return () => {
      element.removeEventListener("torchx-open", open);
      element.removeEventListener("torchx-search", filter);
    };
  }, [navigate, pathname]);
  const attributes = dagId
    ? { "dag-id": dagId, "run-id": runId, "task-id": taskId, "map-index": mapIndex ?? "-1" }
    : { search };
  return createElement("torchx-view", { ref: view, ...attributes });
}

// The name of the plugin's entries: the host takes the component from here, for each of them.
globalThis.TorchX = TorchX;
globalThis.AirflowPlugin = TorchX;
