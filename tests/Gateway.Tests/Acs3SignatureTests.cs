using System.Text;
using GpuTasks.Gateway.Signing;

namespace GpuTasks.Gateway.Tests;

/// <summary>The vectors that the official SDK made (contract, section 9).</summary>
public sealed class Acs3SignatureTests
{
    private const string Secret = "testAccessKeySecret000000000000";
    private const string EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    [Theory]
    [InlineData("PUT", "/2023-03-30/functions/vec-fn/async-invoke-config", "qualifier=LATEST", "PutAsyncInvokeConfig",
        "application/json; charset=utf-8", """{"asyncTask":true,"maxAsyncRetryAttempts":2}""",
        "09ba205c1d81eb85ac9b743f57c6125cafd228c48b6dd84410fa8db5da4a4584",
        "55755e50efac4030d65139d6357d9365e627e6f3ffce263ff2348ac09784249d",
        "7485069c87d2fe7603d9eb2537d34153e67fc1b47f8d7dea549acd024d98b9a8")]
    [InlineData("GET", "/2023-03-30/functions/vec-fn/async-tasks",
        "includePayload=true&limit=10&prefix=job-1!*%27()%20%2B%2F~%C3%A9&startedTimeBegin=1640966400000&status=Running", "ListAsyncTasks", null, "",
        EmptyHash,
        "b2268210b413c3eb3094f4a8d327d4f803e262bbd2f6055108912ea82f3fe232",
        "dacfee58ca9446dcc81638a610efe98a7f5a1e7a24c625c0bff00166f31034b1")]
    [InlineData("POST", "/2023-03-30/functions/vec-fn/invocations", "", "InvokeFunction", "application/octet-stream", """{"n":1}""",
        "2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd",
        "540cb9048457df7ea24515f083c75c960e3770920bd15773dba986cbbf3ece0b",
        "4cb568a6972ce1f6e40e492f4be9c3a1499a318c8a4446950f236a69fa2f7f81")]
    public void The_sdk_and_we_sign_alike(
        string method, string path, string query, string action, string? contentType, string body, string bodyHash, string requestHash, string signature)
    {
        Assert.Equal(bodyHash, Acs3Signature.Hash(Encoding.UTF8.GetBytes(body)));
        var canonical = Acs3Signature.CanonicalRequest(method, path, query, Headers(action, contentType, bodyHash), bodyHash);
        Assert.Equal(requestHash, Acs3Signature.Hash(Encoding.UTF8.GetBytes(canonical)));
        Assert.Equal(signature, Acs3Signature.Sign(Secret, canonical));
    }

    [Fact]
    public void The_canonical_query_is_sorted_and_escaped_anew() =>
        Assert.Equal("a=&b=%21%2A%27%28%29%20~&b=2&c=%C3%A9", Acs3Signature.CanonicalQuery("c=%C3%A9&b=!*%27()+~&b=2&a&&"));

    [Fact]
    public void The_canonical_path_keeps_its_escapes() =>
        Assert.Equal("/a%20b%2Ac~%2F", Acs3Signature.CanonicalUri("/a+b*c%7E%2F"));

    [Fact]
    public void Any_change_of_what_is_signed_changes_the_signature()
    {
        var headers = Headers("InvokeFunction", null, EmptyHash);
        string Sign(string method, string path, string query, IReadOnlyList<KeyValuePair<string, string>> signed, string hash) =>
            Acs3Signature.Sign(Secret, Acs3Signature.CanonicalRequest(method, path, query, signed, hash));
        var good = Sign("GET", "/a", "x=1", headers, EmptyHash);
        Assert.Equal(good, Sign("GET", "/a", "x=1", headers, EmptyHash));
        Assert.NotEqual(good, Sign("PUT", "/a", "x=1", headers, EmptyHash));
        Assert.NotEqual(good, Sign("GET", "/b", "x=1", headers, EmptyHash));
        Assert.NotEqual(good, Sign("GET", "/a", "x=2", headers, EmptyHash));
        Assert.NotEqual(good, Sign("GET", "/a", "x=1", [.. headers.Skip(1)], EmptyHash));
        Assert.NotEqual(good, Sign("GET", "/a", "x=1", headers, EmptyHash.Replace('e', 'f')));
    }

    [Theory]
    [InlineData("ACS3-HMAC-SHA256")]
    [InlineData("ACS3-HMAC-SHA256 ")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=,Signature=b")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=h;;x,Signature=b")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=h,Signature=b,Signature=c")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=h,Signature=b,Other=c")]
    [InlineData("ACS3-RSA-SHA256 Credential=a,SignedHeaders=h,Signature=b")]
    public void A_header_of_another_form_is_not_taken_apart(string header) => Assert.Null(Acs3Signature.Parse(header));

    [Fact]
    public void A_header_of_the_scheme_is_taken_apart()
    {
        var parsed = Acs3Signature.Parse("ACS3-HMAC-SHA256 Credential=ak,SignedHeaders=host;x-acs-date,Signature=00ff")!;
        Assert.Equal("ak", parsed.AccessKeyId);
        Assert.Equal(["host", "x-acs-date"], parsed.SignedHeaders);
        Assert.Equal("00ff", parsed.Signature);
    }

    private static List<KeyValuePair<string, string>> Headers(string action, string? contentType, string bodyHash)
    {
        List<KeyValuePair<string, string>> headers = [];
        if (contentType is not null)
        {
            headers.Add(new("content-type", contentType));
        }

        headers.AddRange(
        [
            new("host", "127.0.0.1:9100"),
            new("x-acs-action", action),
            new("x-acs-content-sha256", bodyHash),
            new("x-acs-credentials-provider", "static_ak"),
            new("x-acs-date", "2026-01-02T03:04:05Z"),
            new("x-acs-signature-nonce", "0123456789abcdef0123456789abcdef"),
            new("x-acs-version", "2023-03-30"),
        ]);
        return headers;
    }
}
