/**
 * An error that a person can put right. Its message is a sentence that says what happened and what to do, without any secret in it: it
 * is shown as it is, and its stack nowhere.
 */
export class ExplainedError extends Error {}
