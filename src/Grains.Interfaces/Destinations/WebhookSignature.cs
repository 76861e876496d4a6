using System.Buffers.Text;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Destinations;

/// <summary>Signatures and secrets of the Standard Webhooks scheme, version <c>v1</c> (HMAC-SHA256).</summary>
public static class WebhookSignature
{
    /// <summary>What secrets start with.</summary>
    public const string SecretPrefix = "whsec_";

    private const int MinKeyBytes = 24;
    private const int MaxKeyBytes = 64;

    /// <summary>A new secret of 32 random bytes.</summary>
    public static string NewSecret() => SecretPrefix + Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    /// <summary>Whether a text is a secret: <c>whsec_</c> and 24 to 64 bytes as base64.</summary>
    public static bool IsSecret(string text) => TryReadKey(text, out _);

    /// <summary>Value of <c>webhook-signature</c>: one signature for each secret, separated by blanks.</summary>
    /// <param name="secrets">Valid secrets, the newest first.</param>
    /// <param name="id">Value of <c>webhook-id</c>; holds no dot.</param>
    /// <param name="at">Time of <c>webhook-timestamp</c>, whole seconds.</param>
    /// <param name="body">What is sent.</param>
    /// <exception cref="ArgumentException">A secret is none.</exception>
    public static string Sign(IEnumerable<string> secrets, string id, DateTimeOffset at, ReadOnlySpan<byte> body)
    {
        var head = Encoding.UTF8.GetBytes($"{id}.{Timestamp(at)}.");
        var signed = new byte[head.Length + body.Length];
        head.CopyTo(signed, 0);
        body.CopyTo(signed.AsSpan(head.Length));
        return string.Join(' ', secrets.Select(secret => TryReadKey(secret, out var key)
            ? $"v1,{Convert.ToBase64String(HMACSHA256.HashData(key, signed))}"
            : throw new ArgumentException("A webhook secret is not of the form whsec_BASE64.", nameof(secrets))));
    }

    /// <summary>Value of <c>webhook-timestamp</c>: seconds since the epoch.</summary>
    public static string Timestamp(DateTimeOffset at) => at.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture);

    private static bool TryReadKey(string secret, out byte[] key)
    {
        key = [];
        if (!secret.StartsWith(SecretPrefix, StringComparison.Ordinal) || secret.Length > 128
            || !Base64.IsValid(secret.AsSpan(SecretPrefix.Length), out var length) || length is < MinKeyBytes or > MaxKeyBytes)
        {
            return false;
        }

        key = Convert.FromBase64String(secret[SecretPrefix.Length..]);
        return true;
    }
}
