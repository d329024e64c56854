/** What a user's type checker sees of the package. */

import { Client, type Event, type RefusedError, type Secret, SecretBrokerError } from "@secret-broker/client";

/** The password that an event brings. */
function told(event: Event): string | undefined {
  return event.type === "CURRENT" || event.type === "ROTATED" ? event.secret.text("password") : undefined;
}

// No broker is needed to see how one that is away is told.
const client = new Client({ address: "unix:///nowhere/broker.sock", deadlineMs: 1000 });
try {
  const secret: Secret = await client.get("DB");
  const left: number | undefined = secret.timeLeftMs;
  const generation: number = await client.report(secret, "WORKED");
  const found: Map<string, Secret | RefusedError> = await client.getMany(["DB"]);
  console.log(left, generation, found);
  for await (const event of client.watch(["DB"])) {
    console.log(told(event));
  }
} catch (error) {
  if (!(error instanceof SecretBrokerError) || !error.isTransient) {
    throw error;
  }
  console.log(`as expected: ${error.message}`);
}
client.close();
