// Questions to the server. Of several of one kind only the last is answered.
const running = new Map(); // kind -> AbortController

export class Superseded extends Error {}

const query = (parameters) => new URLSearchParams(parameters).toString();

/** The answer to a question, as JSON. A newer question of the same kind ends it with Superseded. */
export const ask = async (kind, parameters = {}) => {
  running.get(kind)?.abort();
  const controller = new AbortController();
  running.set(kind, controller);
  try {
    const response = await fetch(`api/${kind}?${query(parameters)}`, { signal: controller.signal });
    const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
    return answer;
  } catch (error) {
    if (controller.signal.aborted) throw new Superseded();
    if (error instanceof TypeError) throw new Error("the server does not answer; start originality explore again");
    throw error;
  }
};

/** Where a selection is downloaded. */
export const exportAddress = (view) => `export.csv?${query({ view: JSON.stringify(view) })}`;
