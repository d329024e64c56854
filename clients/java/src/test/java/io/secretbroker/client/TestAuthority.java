package io.secretbroker.client;

import java.io.IOException;
import java.io.StringWriter;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.time.Instant;
import java.util.Date;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.BasicConstraints;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.openssl.jcajce.JcaPKCS8Generator;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;

/** Signs certificates for tests. */
final class TestAuthority {
  private final KeyPair own = keys();
  private final Object certificate = sign("authority", own, true);

  private static KeyPair keys() {
    try {
      KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
      generator.initialize(256);
      return generator.generateKeyPair();
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }

  private Object sign(String name, KeyPair keys, boolean authority) {
    try {
      X509v3CertificateBuilder builder = new JcaX509v3CertificateBuilder(
          new X500Name("CN=authority"), BigInteger.valueOf(System.nanoTime()),
          Date.from(Instant.now().minusSeconds(3600)), Date.from(Instant.now().plusSeconds(3600)),
          new X500Name("CN=" + name), keys.getPublic());
      builder.addExtension(Extension.basicConstraints, true, new BasicConstraints(authority));
      if (!authority) {
        builder.addExtension(Extension.subjectAlternativeName, false,
            new GeneralNames(new GeneralName(GeneralName.iPAddress, "127.0.0.1")));
      }
      return builder.build(new JcaContentSignerBuilder("SHA256withECDSA").build(own.getPrivate()));
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }

  /** Writes ca.pem, client.pem and client.key. */
  void issue(Path directory, String name) {
    KeyPair keys = keys();
    write(directory, "ca.pem", certificate);
    write(directory, "client.pem", sign(name, keys, false));
    try {
      write(directory, "client.key", new JcaPKCS8Generator(keys.getPrivate(), null));
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }

  private static void write(Path directory, String name, Object content) {
    try {
      StringWriter text = new StringWriter();
      try (JcaPEMWriter writer = new JcaPEMWriter(text)) {
        writer.writeObject(content);
      }
      Path fresh = Files.writeString(directory.resolve(name + ".new"), text.toString());
      Files.move(fresh, directory.resolve(name), StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }
}
