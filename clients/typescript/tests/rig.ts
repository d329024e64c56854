/** Real servers, as the environment names them, whose secrets turn over on demand. */

function named(variable: string): string {
  const value = process.env[variable];
  if (value === undefined) {
    throw new Error(`${variable} is not set: start the servers first, as tests/clients/README.md says`);
  }
  return value;
}

export const rig = {
  control: named("RIG_CONTROL"),
  pg: named("RIG_PG"),
  redis: { host: named("RIG_REDIS").split(":")[0]!, port: Number(named("RIG_REDIS").split(":")[1]) },
  socket: named("RIG_SOCKET"),
  wrongCertDir: named("RIG_WRONG_CERT_DIR"),
  address: named("SECRET_BROKER_ADDRESS"),

  async do(verb: string, body: object = {}): Promise<Record<string, unknown>> {
    const answer = await fetch(`${this.control}/${verb}`, { method: "POST", body: JSON.stringify(body) });
    const content = (await answer.json()) as Record<string, unknown>;
    if (!answer.ok) {
      throw new Error(`${verb}: ${String(content["error"])}`);
    }
    return content;
  },

  async rotate(name: string): Promise<number> {
    return Number((await this.do("rotate", { name }))["generation"]);
  },

  async users(): Promise<Set<string>> {
    return new Set((await this.do("users"))["users"] as string[]);
  },
};
