using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace GpuTasks.Secrets;

/// <summary>How stored secrets are encrypted. Configuration section <c>GpuTasks:Secrets</c>.</summary>
public sealed class SecretOptions
{
    /// <summary>Configuration section.</summary>
    public const string Section = "GpuTasks:Secrets";

    /// <summary>
    /// Folder of the key ring; every silo needs the same one. Default: the folder <c>secrets</c> beside a SQLite database; for
    /// PostgreSQL empty, which keeps the ring in the database.
    /// </summary>
    public string Folder { get; set; } = "";

    /// <summary>
    /// File (PKCS #12, with private key) whose certificate encrypts the ring itself, so that a copy of folder or database
    /// opens nothing. Default: none.
    /// </summary>
    public string CertificateFile { get; set; } = "";

    /// <summary>Password of the certificate's file; default none.</summary>
    public string CertificatePassword { get; set; } = "";

    /// <summary>Earlier certificates that parts of the ring are still encrypted with: files, separated by commas, same password.</summary>
    public string EarlierCertificateFiles { get; set; } = "";

    /// <summary>Days after which new values are encrypted with a new key: 7 to 3,650, default 90. Older keys go on opening what they closed.</summary>
    public int RotationDays { get; set; } = 90;

    /// <summary>Every fault of these options in words; empty if there is none.</summary>
    public IReadOnlyList<string> FindFaults()
    {
        var faults = new List<string>();
        if (RotationDays is < 7 or > 3_650)
        {
            faults.Add($"{Section}:{nameof(RotationDays)} is {RotationDays}; it must be 7 to 3650.");
        }

        try
        {
            foreach (var certificate in Certificates())
            {
                if (!certificate.HasPrivateKey)
                {
                    faults.Add($"{Section}: the certificate {certificate.Subject} has no private key.");
                }
            }
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException)
        {
            faults.Add($"{Section}: a certificate cannot be read: {e.Message}");
        }

        return faults;
    }

    /// <summary>The certificate of new keys first, then the earlier ones; empty if none is set.</summary>
    internal IReadOnlyList<X509Certificate2> Certificates() =>
    [
        .. new[] { CertificateFile }.Concat(EarlierCertificateFiles.Split(',', StringSplitOptions.TrimEntries))
            .Where(file => file.Length > 0)
            .Select(file => X509CertificateLoader.LoadPkcs12FromFile(file, CertificatePassword)),
    ];
}
