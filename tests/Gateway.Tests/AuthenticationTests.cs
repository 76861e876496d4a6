using System.Net;
using System.Text;
using GpuTasks.Gateway.Signing;

namespace GpuTasks.Gateway.Tests;

public sealed class AuthenticationTests : IAsyncLifetime
{
    private const string List = "/2023-03-30/functions";
    private GatewayServer server = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => server = await GatewayServer.StartAsync();

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_signed_call_is_served()
    {
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("GET", $"{List}?limit=10&prefix=a!*%27()%20~")).Status);
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("POST", List, GatewayServer.Function("signed"))).Status);
    }

    [Fact]
    public async Task A_body_that_was_changed_is_refused()
    {
        var answer = await server.SignedAsync("POST", List, GatewayServer.Function("f"), tamper: request =>
        {
            var hash = Acs3Signature.Hash("other"u8);
            request.Headers.Remove("x-acs-content-sha256");
            request.Headers.TryAddWithoutValidation("x-acs-content-sha256", hash);
        });
        answer.Is(403, "SignatureNotMatch");
    }

    [Fact]
    public async Task A_body_other_than_the_signed_one_is_refused()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, List);
        await server.SignedAsync("POST", List, "{}", tamper: signed =>
        {
            foreach (var (name, values) in signed.Headers)
            {
                request.Headers.TryAddWithoutValidation(name, values);
            }

            // The first request must not use the nonce up.
            signed.Headers.Remove("Authorization");
        });
        (await server.SendAsync(request, Encoding.UTF8.GetBytes(GatewayServer.Function("f")))).Is(403, "SignatureNotMatch");
        Assert.Empty(server.Platform.Functions);
    }

    [Fact]
    public async Task Wrong_keys_are_told_apart()
    {
        (await server.SignedAsync("GET", List, secret: "another-secret-000000")).Is(403, "SignatureNotMatch");
        (await server.SignedAsync("GET", List, accessKey: "LTAIunknown")).Is(403, "InvalidAccessKeyID");
        (await server.CallAsync("GET", List, key: "unknown-api-key")).Is(403, "InvalidAccessKeyID");
        (await server.CallAsync("GET", List, key: GatewayServer.OperatorKey)).Is(403, "AccessDenied");
    }

    [Theory]
    [InlineData("Authorization", 400, "MissingRequiredHeader")]
    [InlineData("x-acs-date", 400, "MissingRequiredHeader")]
    [InlineData("x-acs-signature-nonce", 400, "MissingRequiredHeader")]
    [InlineData("x-acs-content-sha256", 400, "MissingRequiredHeader")]
    [InlineData("x-acs-action", 403, "SignatureNotMatch")]
    public async Task A_missing_header_is_named(string header, int status, string code)
    {
        var answer = await server.SignedAsync("GET", List, tamper: request => request.Headers.Remove(header));
        answer.Is(status, code);
        if (status == 400)
        {
            Assert.Contains(header, answer.Message!, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("Digest abc")]
    [InlineData("acs ak")]
    [InlineData("ACS3-HMAC-SHA256 Credential=a")]
    public async Task Another_scheme_is_an_invalid_argument(string authorization)
    {
        var answer = await server.SignedAsync("GET", List, tamper: request =>
        {
            request.Headers.Remove("Authorization");
            request.Headers.TryAddWithoutValidation("Authorization", authorization);
        });
        answer.Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task Headers_that_matter_must_be_signed()
    {
        var answer = await server.SignedAsync("GET", List, tamper: request =>
        {
            var authorization = request.Headers.GetValues("Authorization").Single();
            request.Headers.Remove("Authorization");
            request.Headers.TryAddWithoutValidation("Authorization", authorization.Replace("host;", "", StringComparison.Ordinal));
        });
        answer.Is(403, "SignatureNotMatch");
        Assert.Contains("host", answer.Message!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_date_within_the_skew_is_accepted_and_one_beyond_it_is_not()
    {
        var now = DateTimeOffset.UtcNow;
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("GET", List, date: now.AddMinutes(-14))).Status);
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("GET", List, date: now.AddMinutes(14))).Status);
        (await server.SignedAsync("GET", List, date: now.AddMinutes(-16))).Is(403, "SignatureNotMatch");
        (await server.SignedAsync("GET", List, date: now.AddMinutes(16))).Is(403, "SignatureNotMatch");
        server.Clock.Offset = TimeSpan.FromHours(1);
        (await server.SignedAsync("GET", List, date: now)).Is(403, "SignatureNotMatch");
        (await server.SignedAsync("GET", List, tamper: request =>
        {
            request.Headers.Remove("x-acs-date");
            request.Headers.TryAddWithoutValidation("x-acs-date", "yesterday");
        })).Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task A_request_cannot_be_replayed()
    {
        var date = DateTimeOffset.UtcNow;
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("GET", List, date: date, nonce: "n-1")).Status);
        (await server.SignedAsync("GET", List, date: date, nonce: "n-1")).Is(403, "SignatureNotMatch");
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("GET", List, date: date, nonce: "n-2")).Status);
    }

    [Fact]
    public async Task Nothing_is_buffered_for_strangers()
    {
        // The body never ends, so an answer proves that it was not waited for.
        using var client = new System.Net.Sockets.TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, server.Url.Port, Cancel);
        await using var stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(
            "POST /2023-03-30/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nobody-knows-me\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), Cancel);
        using var reader = new StreamReader(stream);
        Assert.Contains("403", await reader.ReadLineAsync(Cancel).AsTask().WaitAsync(TimeSpan.FromSeconds(5), Cancel), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_dashboard_opens_with_the_operator_key_only()
    {
        var none = await server.CallAsync("GET", "/dashboard");
        none.Is(401, "AccessDenied");
        Assert.StartsWith("Basic", none.Headers["WWW-Authenticate"], StringComparison.Ordinal);
        (await server.CallAsync("GET", "/Dashboard/x")).Is(401, "AccessDenied");
        Assert.Equal("the dashboard", (await server.CallAsync("GET", "/dashboard", key: GatewayServer.OperatorKey)).Text);

        using var basic = new HttpRequestMessage(HttpMethod.Get, "/dashboard");
        basic.Headers.Authorization = new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"me:{GatewayServer.OperatorKey}")));
        Assert.Equal("the dashboard", (await server.SendAsync(basic, null)).Text);
        using var broken = new HttpRequestMessage(HttpMethod.Get, "/dashboard");
        broken.Headers.TryAddWithoutValidation("Authorization", "Basic %%%");
        (await server.SendAsync(broken, null)).Is(401, "AccessDenied");
    }

    [Fact]
    public async Task A_changed_keys_file_is_taken_into_use_and_a_faulty_one_is_not()
    {
        await File.WriteAllTextAsync(server.KeysFile, GatewayServer.Keys.Replace(GatewayServer.ApiKey, "fresh-api-key", StringComparison.Ordinal), Cancel);
        await EventuallyAsync(async () => (await server.CallAsync("GET", List, key: "fresh-api-key")).Status == HttpStatusCode.OK);
        (await server.CallAsync("GET", List)).Is(403, "InvalidAccessKeyID");

        await File.WriteAllTextAsync(server.KeysFile, "{ broken", Cancel);
        await Task.Delay(TimeSpan.FromSeconds(6), Cancel);
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", List, key: "fresh-api-key")).Status);
    }

    private static async Task EventuallyAsync(Func<Task<bool>> holds)
    {
        for (var until = DateTimeOffset.UtcNow.AddSeconds(20); !await holds();)
        {
            Assert.True(DateTimeOffset.UtcNow < until, "it did not come to hold within 20 s");
            await Task.Delay(100, Cancel);
        }
    }
}
