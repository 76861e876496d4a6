using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace GpuTasks.SystemTests;

/// <summary>One message as its receiver got it.</summary>
/// <param name="Id">Delivery id.</param>
/// <param name="Task">Task that it is of.</param>
/// <param name="Condition">Why the task failed; empty on success.</param>
/// <param name="Signed">Whether its signature is right.</param>
internal sealed record HeardMessage(string Id, string Task, string Condition, bool Signed);

/// <summary>Somebody's web server that wants to hear of ends, keeps what it is told, and can be away.</summary>
internal sealed class WebhookReceiver(string address, int port) : IDisposable
{
    private const int LongestThoughtMs = 200;
    private HttpListener? listener;

    /// <summary>Where it listens.</summary>
    public Uri Target { get; } = new(string.Create(CultureInfo.InvariantCulture, $"http://{address}:{port}/"));

    /// <summary>What messages are signed with, as the platform told it.</summary>
    public string Secret { get; set; } = "";

    /// <summary>Everything that it was told, also what it could not answer any more.</summary>
    public ConcurrentQueue<HeardMessage> Heard { get; } = new();

    /// <summary>Delivery ids of what it answered with success. An answer may have been lost all the same.</summary>
    public ConcurrentDictionary<string, bool> Taken { get; } = new();

    public void Start()
    {
        listener = new HttpListener { Prefixes = { Target.ToString() } };
        listener.Start();
        _ = ListenAsync(listener);
    }

    /// <summary>Closes its port, and with it every connection: what was read and not yet answered will be told again.</summary>
    public void Stop()
    {
        ((IDisposable?)listener)?.Dispose();
        listener = null;
    }

    public void Dispose() => Stop();

    private async Task ListenAsync(HttpListener current)
    {
        try
        {
            while (true)
            {
                _ = HearAsync(await current.GetContextAsync());
            }
        }
        catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or InvalidOperationException)
        {
            // It was stopped.
        }
    }

    private async Task HearAsync(HttpListenerContext context)
    {
        try
        {
            using var copy = new MemoryStream();
            await context.Request.InputStream.CopyToAsync(copy);
            var body = copy.ToArray();
            var of = JsonNode.Parse(body)!["requestContext"]!;
            var message = new HeardMessage(context.Request.Headers["webhook-id"]!, (string)of["taskId"]!, (string)of["condition"]!, IsSigned(context.Request.Headers, body));
            Heard.Enqueue(message);
            await Task.Delay(Random.Shared.Next(LongestThoughtMs));
            context.Response.StatusCode = 204;
            context.Response.Close();
            Taken[message.Id] = true;
        }
        catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or IOException)
        {
            // It was stopped meanwhile, or the sender has gone.
        }
    }

    /// <summary>By the Standard Webhooks scheme.</summary>
    private bool IsSigned(System.Collections.Specialized.NameValueCollection headers, byte[] body)
    {
        byte[] told = [.. Encoding.UTF8.GetBytes($"{headers["webhook-id"]}.{headers["webhook-timestamp"]}."), .. body];
        var right = HMACSHA256.HashData(Convert.FromBase64String(Secret["whsec_".Length..]), told);
        return headers["webhook-signature"]!.Split(' ').Contains($"v1,{Convert.ToBase64String(right)}");
    }
}
