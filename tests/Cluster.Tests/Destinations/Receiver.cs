using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Tests.Destinations;

/// <summary>A receiver of webhooks in the test's hand.</summary>
internal sealed class Receiver : IAsyncDisposable
{
    private readonly WebApplication app;

    private Receiver(WebApplication app) => this.app = app;

    /// <summary>What each path answers; 204 where nothing is said.</summary>
    public ConcurrentDictionary<string, Func<HttpContext, Task>> Answers { get; } = new();

    /// <summary>What came, in its order.</summary>
    public ConcurrentQueue<Delivery> Received { get; } = new();

    public string Url(string path) => $"http://127.0.0.1:{new Uri(app.Urls.First()).Port}{path}";

    public IReadOnlyList<Delivery> At(string path) => [.. Received.Where(delivery => delivery.Path == path)];

    /// <summary>Answers a path with a status from now on.</summary>
    public void Answer(string path, int status, string? retryAfter = null) => Answers[path] = http =>
    {
        http.Response.StatusCode = status;
        http.Response.Headers.RetryAfter = retryAfter;
        return Task.CompletedTask;
    };

    public static async Task<Receiver> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Any, 0));
        var receiver = new Receiver(builder.Build());
        receiver.app.Run(receiver.ReceiveAsync);
        await receiver.app.StartAsync();
        return receiver;
    }

    public ValueTask DisposeAsync() => app.DisposeAsync();

    private async Task ReceiveAsync(HttpContext http)
    {
        using var reader = new StreamReader(http.Request.Body, Encoding.UTF8);
        var body = await reader.ReadToEndAsync();
        Received.Enqueue(new Delivery(
            http.Request.Path.Value!, http.Request.Headers["webhook-id"].ToString(), http.Request.Headers["webhook-timestamp"].ToString(), http.Request.Headers["webhook-signature"].ToString(), body));
        http.Response.StatusCode = 204;
        if (Answers.GetValueOrDefault(http.Request.Path.Value!) is { } answer)
        {
            await answer(http);
        }
    }

    /// <summary>One request.</summary>
    internal sealed record Delivery(string Path, string Id, string Timestamp, string Signature, string Body)
    {
        /// <summary>Whether one of its signatures is by a secret, as a receiver would check it.</summary>
        public bool IsSignedBy(string secret)
        {
            var hash = HMACSHA256.HashData(Convert.FromBase64String(secret["whsec_".Length..]), Encoding.UTF8.GetBytes($"{Id}.{Timestamp}.{Body}"));
            return Signature.Split(' ').Contains("v1," + Convert.ToBase64String(hash))
                && Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - long.Parse(Timestamp, CultureInfo.InvariantCulture)) < 300;
        }
    }
}
