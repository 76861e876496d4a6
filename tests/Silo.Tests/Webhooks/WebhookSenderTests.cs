using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using GpuTasks.Destinations;
using GpuTasks.Webhooks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace GpuTasks.Tests.Webhooks;

/// <summary>The sender against receivers on real sockets.</summary>
public sealed class WebhookSenderTests : IAsyncLifetime
{
    private const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    private static readonly byte[] Body = "{\"a\":1}"u8.ToArray();
    private readonly ConcurrentQueue<(string Host, string Local, Dictionary<string, string> Headers, byte[] Body)> received = new();
    private readonly X509Certificate2 certificate = SelfSigned("hooks.example");
    private WebApplication receiver = null!;
    private Func<HttpContext, Task> answer = http => Task.CompletedTask;
    private int port;
    private int tlsPort;

    public async ValueTask InitializeAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Any, 0);
            kestrel.Listen(IPAddress.Loopback, 0, listen => listen.UseHttps(certificate));
        });
        receiver = builder.Build();
        receiver.Run(async http =>
        {
            using var body = new MemoryStream();
            await http.Request.Body.CopyToAsync(body);
            received.Enqueue((http.Request.Host.Host, http.Connection.LocalIpAddress!.MapToIPv4().ToString(), http.Request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase), body.ToArray()));
            await answer(http);
        });
        await receiver.StartAsync();
        port = new Uri(receiver.Urls.First(url => url.StartsWith("http://", StringComparison.Ordinal))).Port;
        tlsPort = new Uri(receiver.Urls.First(url => url.StartsWith("https://", StringComparison.Ordinal))).Port;
    }

    public async ValueTask DisposeAsync()
    {
        await receiver.DisposeAsync();
        certificate.Dispose();
    }

    [Fact]
    public async Task A_delivery_is_signed_and_goes_out_once()
    {
        using var sender = Sender(["127.0.0.0/8"]);
        Assert.Null(await sender.SendAsync(Call($"http://hooks.example:{port}/a?b=c")));
        var (host, _, headers, body) = Assert.Single(received);
        Assert.Equal(("hooks.example", "d-1", "application/json; charset=utf-8"), (host, headers["webhook-id"], headers["content-type"]));
        Assert.Equal(Body, body);

        // Computed here by hand, as a receiver would.
        var key = Convert.FromBase64String(Secret["whsec_".Length..]);
        var expected = Convert.ToBase64String(HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"d-1.{headers["webhook-timestamp"]}.{{\"a\":1}}")));
        Assert.Equal($"v1,{expected}", headers["webhook-signature"]);
        Assert.InRange(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - long.Parse(headers["webhook-timestamp"], System.Globalization.CultureInfo.InvariantCulture), -5, 60);
    }

    [Theory]
    [InlineData("http://127.0.0.1:{0}/")]
    [InlineData("http://127.0.0.2:{0}/")]
    [InlineData("http://0.0.0.0:{0}/")]
    [InlineData("http://[::ffff:127.0.0.1]:{0}/")]
    [InlineData("http://2130706433:{0}/")]
    [InlineData("http://0x7f000001:{0}/")]
    [InlineData("http://localhost:{0}/")]
    [InlineData("http://hooks.example:{0}/")]
    public async Task Addresses_that_are_not_public_are_not_connected_to(string url)
    {
        using var sender = Sender([]);
        var fault = await sender.SendAsync(Call(string.Format(System.Globalization.CultureInfo.InvariantCulture, url, port)));
        Assert.True(fault is { Final: true }, fault?.Message);
        Assert.Contains("no public address", fault!.Message, StringComparison.Ordinal);
        Assert.Empty(received);
    }

    [Fact]
    public async Task Of_several_addresses_only_a_permitted_one_is_connected_to()
    {
        using var sender = Sender(["127.0.0.2/32"], lookUp: (_, _) => Task.FromResult<IPAddress[]>([IPAddress.Loopback, IPAddress.IPv6Loopback, IPAddress.Parse("127.0.0.2")]));
        Assert.Null(await sender.SendAsync(Call($"http://hooks.example:{port}/")));
        Assert.Equal("127.0.0.2", Assert.Single(received).Local);
    }

    [Fact]
    public async Task A_name_that_changes_its_address_is_judged_at_each_connection_by_what_is_connected_to()
    {
        var asked = 0;
        using var sender = Sender(["127.0.0.2/32"], lookUp: (_, _) => Task.FromResult<IPAddress[]>([Interlocked.Increment(ref asked) == 1 ? IPAddress.Parse("127.0.0.2") : IPAddress.Loopback]));
        answer = http =>
        {
            http.Response.Headers.Connection = "close";
            return Task.CompletedTask;
        };
        Assert.Null(await sender.SendAsync(Call($"http://hooks.example:{port}/")));
        Assert.True(await sender.SendAsync(Call($"http://hooks.example:{port}/")) is { Final: true });
        Assert.Equal((1, 2), (received.Count, asked));
    }

    [Fact]
    public async Task A_redirect_is_not_followed()
    {
        using var sender = Sender(["127.0.0.0/8"]);
        answer = http =>
        {
            http.Response.Redirect($"http://127.0.0.1:{port}/elsewhere", permanent: false, preserveMethod: true);
            return Task.CompletedTask;
        };
        var fault = await sender.SendAsync(Call($"http://hooks.example:{port}/"));
        Assert.Contains("307", fault!.Message, StringComparison.Ordinal);
        Assert.False(fault.Final);
        Assert.Single(received);
    }

    [Theory]
    [InlineData(410, true, false)]
    [InlineData(400, false, false)]
    [InlineData(404, false, false)]
    [InlineData(429, false, true)]
    [InlineData(500, false, true)]
    [InlineData(503, false, true)]
    public async Task An_answer_says_whether_to_try_again_and_when(int status, bool isFinal, bool isAway)
    {
        using var sender = Sender(["127.0.0.0/8"]);
        answer = async http =>
        {
            http.Response.StatusCode = status;
            http.Response.Headers.RetryAfter = "120";
            await http.Response.WriteAsync("because\nof " + new string('x', 100_000));
        };
        var fault = await sender.SendAsync(Call($"http://hooks.example:{port}/"));
        Assert.Equal((isFinal, isAway, TimeSpan.FromSeconds(120), true), (fault!.Final, fault.IsAway, fault.RetryAfter, fault.Tried));
        Assert.StartsWith($"The receiver answered {status}. because of x", fault.Message, StringComparison.Ordinal);
        Assert.InRange(fault.Message.Length, 100, 400);
    }

    [Fact]
    public async Task A_receiver_that_does_not_answer_in_time_is_left()
    {
        using var over = new CancellationTokenSource();
        using var sender = Sender(["127.0.0.0/8"]);
        answer = http => Task.Delay(Timeout.Infinite, over.Token).ContinueWith(_ => { }, TaskScheduler.Default);
        var fault = await sender.SendAsync(Call($"http://hooks.example:{port}/"));
        Assert.Equal((false, true, "The receiver did not answer within 2 s."), (fault!.Final, fault.IsAway, fault.Message));
        await over.CancelAsync();
    }

    [Fact]
    public async Task An_endless_answer_costs_no_more_than_its_beginning()
    {
        using var sender = Sender(["127.0.0.0/8"]);
        answer = async http =>
        {
            http.Response.StatusCode = 500;
            try
            {
                while (true)
                {
                    await http.Response.Body.WriteAsync(new byte[65_536], http.RequestAborted);
                }
            }
            catch (OperationCanceledException)
            {
                // It was left.
            }
        };
        Assert.StartsWith("The receiver answered 500.", (await sender.SendAsync(Call($"http://hooks.example:{port}/")))!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nobody_there_is_a_fault_that_passes()
    {
        using var sender = Sender(["127.0.0.0/8"]);
        await receiver.StopAsync(TestContext.Current.CancellationToken);
        var fault = await sender.SendAsync(Call($"http://hooks.example:{port}/"));
        Assert.Equal((false, true, true), (fault!.Final, fault.IsAway, fault.Tried));
        using var nameless = Sender([], lookUp: (_, _) => throw new System.Net.Sockets.SocketException((int)System.Net.Sockets.SocketError.HostNotFound));
        Assert.True(await nameless.SendAsync(Call("http://nobody.example/")) is { Final: false, IsAway: true });
    }

    [Fact]
    public async Task A_dead_receiver_is_asked_less_and_less_and_does_not_hold_up_another()
    {
        using var sender = Sender(["127.0.0.0/8"]);
        var dead = $"http://dead.example:1/";
        for (var i = 0; i < DeliveryLanes.FailuresToClose; i++)
        {
            Assert.True(await sender.SendAsync(Call(dead)) is { Tried: true });
        }

        Assert.True(await sender.SendAsync(Call(dead)) is { Tried: false, RetryAfter: { } pause } && pause > TimeSpan.Zero);
        Assert.Null(await sender.SendAsync(Call($"http://hooks.example:{port}/")));
    }

    [Fact]
    public async Task The_certificate_must_be_trusted_and_fit_the_name()
    {
        using var strict = Sender(["127.0.0.0/8"]);
        Assert.True(await strict.SendAsync(Call($"https://hooks.example:{tlsPort}/")) is { Final: false });
        Assert.Empty(received);
        using var trusting = Sender(["127.0.0.0/8"], trust: (_, presented, _, errors) => errors is SslPolicyErrors.RemoteCertificateChainErrors && presented?.GetCertHashString() == certificate.GetCertHashString());
        Assert.Null(await trusting.SendAsync(Call($"https://hooks.example:{tlsPort}/")));
        Assert.True(await trusting.SendAsync(Call($"https://other.example:{tlsPort}/")) is { Final: false });
        Assert.Single(received);
    }

    [Fact]
    public void Targets_that_the_rules_forbid_are_refused_before_anything_is_sent()
    {
        using var sender = Sender(["10.1.0.0/16"], allowHttp: false);
        Assert.NotNull(sender.Refuse(new Uri("http://hooks.example/")));
        Assert.NotNull(sender.Refuse(new Uri("https://10.2.0.1/")));
        Assert.NotNull(sender.Refuse(new Uri("https://[::1]/")));
        Assert.NotNull(sender.Refuse(new Uri("https://2130706433/")));
        Assert.Null(sender.Refuse(new Uri("https://hooks.example/")));
        Assert.Null(sender.Refuse(new Uri("https://10.1.0.1/")));
        Assert.Null(sender.Refuse(new Uri("https://8.8.8.8/")));
    }

    private static WebhookCall Call(string url) => new("a", new Uri(url), "d-1", Body, [Secret]);

    private static WebhookSender Sender(
        string[] ranges, bool allowHttp = true, Func<string, CancellationToken, Task<IPAddress[]>>? lookUp = null, RemoteCertificateValidationCallback? trust = null)
    {
        var options = new WebhookOptions { AllowHttp = allowHttp, TimeoutSeconds = 2 };
        foreach (var range in ranges)
        {
            options.AllowedRanges.Add(range);
        }

        // Names that end in .example lead here, all others where the machine says.
        return new WebhookSender(
            Options.Create(options), TimeProvider.System,
            lookUp ?? ((name, cancel) => name.EndsWith(".example", StringComparison.Ordinal) ? Task.FromResult<IPAddress[]>([IPAddress.Loopback]) : Dns.GetHostAddressesAsync(name, cancel)),
            trust);
    }

    private static X509Certificate2 SelfSigned(string name)
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        request.CertificateExtensions.Add(names.Build());
        using var made = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        return X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pfx), null);
    }
}
