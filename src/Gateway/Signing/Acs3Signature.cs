using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Gateway.Signing;

/// <summary>An <c>Authorization</c> header of the scheme ACS3-HMAC-SHA256, taken apart.</summary>
/// <param name="AccessKeyId">Key that signed.</param>
/// <param name="SignedHeaders">Names as the client wrote them, in its order.</param>
/// <param name="Signature">Lower-case hex.</param>
internal sealed record Acs3Authorization(string AccessKeyId, IReadOnlyList<string> SignedHeaders, string Signature);

/// <summary>The arithmetic of ACS3-HMAC-SHA256 (contract 9). Pure: no clock, no keys of its own.</summary>
internal static class Acs3Signature
{
    public const string Scheme = "ACS3-HMAC-SHA256";

    /// <summary>Most header names that one signature may cover.</summary>
    private const int MaxSignedHeaders = 64;

    /// <summary>Takes the header apart; null if it has another form.</summary>
    public static Acs3Authorization? Parse(string authorization)
    {
        if (!authorization.StartsWith(Scheme + " ", StringComparison.Ordinal))
        {
            return null;
        }

        string? credential = null, signedHeaders = null, signature = null;
        foreach (var part in authorization[(Scheme.Length + 1)..].Split(','))
        {
            var text = part.Trim();
            var equals = text.IndexOf('=', StringComparison.Ordinal);
            if (equals < 1)
            {
                return null;
            }

            var value = text[(equals + 1)..];
            switch (text[..equals])
            {
                case "Credential" when credential is null: credential = value; break;
                case "SignedHeaders" when signedHeaders is null: signedHeaders = value; break;
                case "Signature" when signature is null: signature = value; break;
                default: return null;
            }
        }

        return string.IsNullOrEmpty(credential) || string.IsNullOrEmpty(signedHeaders) || string.IsNullOrEmpty(signature)
            || signedHeaders.Split(';') is not { Length: <= MaxSignedHeaders } names || names.Any(string.IsNullOrEmpty)
            ? null
            : new Acs3Authorization(credential, names, signature);
    }

    /// <summary>The path as it stood on the request line: never decoded, since both sides must see the same bytes.</summary>
    public static string CanonicalUri(string rawPath) => rawPath.Length == 0
        ? "/"
        : rawPath.Replace("+", "%20", StringComparison.Ordinal)
            .Replace("*", "%2A", StringComparison.Ordinal)
            .Replace("%7E", "~", StringComparison.Ordinal);

    /// <summary>
    /// The query decoded, sorted and encoded anew. The wire form cannot be used: clients write it with other
    /// escapes than they sign.
    /// </summary>
    public static string CanonicalQuery(string rawQuery)
    {
        var pairs = rawQuery.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries).Select(pair =>
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            return equals < 0 ? (Key: Decode(pair), Value: "") : (Key: Decode(pair[..equals]), Value: Decode(pair[(equals + 1)..]));
        });
        return string.Join('&', pairs.OrderBy(pair => pair.Key, StringComparer.Ordinal)
            .Select(pair => $"{Uri.EscapeDataString(pair.Key)}={Uri.EscapeDataString(pair.Value)}"));
    }

    /// <summary>The text whose hash is signed.</summary>
    /// <param name="method">Method as on the request line.</param>
    /// <param name="rawPath">Path as on the request line.</param>
    /// <param name="rawQuery">Query as on the request line.</param>
    /// <param name="headers">Signed headers in the order of <c>SignedHeaders</c>.</param>
    /// <param name="payloadHash">Lower-case hex SHA-256 of the body.</param>
    public static string CanonicalRequest(
        string method, string rawPath, string rawQuery, IReadOnlyList<KeyValuePair<string, string>> headers, string payloadHash)
    {
        var text = new StringBuilder()
            .Append(method).Append('\n')
            .Append(CanonicalUri(rawPath)).Append('\n')
            .Append(CanonicalQuery(rawQuery)).Append('\n');
        foreach (var (name, value) in headers)
        {
            text.Append(CultureInfo.InvariantCulture, $"{name}:{value.Trim()}\n");
        }

        return text.Append('\n').AppendJoin(';', headers.Select(header => header.Key)).Append('\n').Append(payloadHash).ToString();
    }

    /// <summary>Lower-case hex signature of a canonical request.</summary>
    public static string Sign(string secret, string canonicalRequest) => Convert.ToHexStringLower(HMACSHA256.HashData(
        Encoding.UTF8.GetBytes(secret), Encoding.UTF8.GetBytes($"{Scheme}\n{Hash(Encoding.UTF8.GetBytes(canonicalRequest))}")));

    /// <summary>Lower-case hex SHA-256.</summary>
    public static string Hash(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    /// <summary>Compares in a time that does not tell how much of the text agrees.</summary>
    public static bool SameText(string expected, string given) =>
        CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(expected), Encoding.UTF8.GetBytes(given));

    private static string Decode(string text) => Uri.UnescapeDataString(text.Replace('+', ' '));
}
