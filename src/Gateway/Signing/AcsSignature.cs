using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Gateway.Signing;

/// <summary>
/// The arithmetic of the older scheme <c>acs</c> with HMAC-SHA1 (contract 9). It covers neither host nor body, so that only the
/// newer one tells a changed body. Pure.
/// </summary>
internal static class AcsSignature
{
    public const string Scheme = "acs ";

    /// <summary>Key id and signature of an <c>Authorization</c> header; null if it has another form.</summary>
    public static (string AccessKeyId, string Signature)? Parse(string authorization) =>
        authorization.StartsWith(Scheme, StringComparison.Ordinal) && authorization[Scheme.Length..].Split(':') is [{ Length: > 0 } id, { Length: > 0 } signature]
            ? (id.Trim(), signature.Trim())
            : null;

    /// <summary>The text that is signed.</summary>
    /// <param name="method">Method as on the request line.</param>
    /// <param name="rawPath">Path as on the request line.</param>
    /// <param name="rawQuery">Query as on the request line; decoded for the signature.</param>
    /// <param name="header">A header's value, empty if there is none.</param>
    /// <param name="acsHeaders">All headers that start with <c>x-acs-</c>, lower-cased.</param>
    public static string TextToSign(
        string method, string rawPath, string rawQuery, Func<string, string> header, IEnumerable<KeyValuePair<string, string>> acsHeaders)
    {
        var text = new StringBuilder()
            .Append(method).Append('\n')
            .Append(header("accept")).Append('\n')
            .Append(header("content-md5")).Append('\n')
            .Append(header("content-type")).Append('\n')
            .Append(header("date")).Append('\n');
        foreach (var (name, value) in acsHeaders.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            text.Append(name).Append(':').Append(value.Trim()).Append('\n');
        }

        text.Append(rawPath);
        var pairs = rawQuery.Split('&', StringSplitOptions.RemoveEmptyEntries).Select(pair =>
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            return equals < 0 ? (Key: Decode(pair), Value: "") : (Key: Decode(pair[..equals]), Value: Decode(pair[(equals + 1)..]));
        }).OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => $"{pair.Key}={pair.Value}").ToList();
        return pairs.Count == 0 ? text.ToString() : text.Append('?').AppendJoin('&', pairs).ToString();
    }

    /// <summary>Base64 signature.</summary>
#pragma warning disable CA5350 // The scheme is what older clients speak; HMAC-SHA1 is not broken as SHA-1 itself is.
    public static string Sign(string secret, string text) =>
        Convert.ToBase64String(HMACSHA1.HashData(Encoding.UTF8.GetBytes(secret), Encoding.UTF8.GetBytes(text)));
#pragma warning restore CA5350

    private static string Decode(string text) => Uri.UnescapeDataString(text.Replace('+', ' '));
}
