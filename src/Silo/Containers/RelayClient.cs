using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text.Json;

namespace GpuTasks.Containers;

/// <summary>What the relay said to an order.</summary>
internal enum RelayAnswer
{
    /// <summary>Accepted now or before.</summary>
    Accepted = 0,

    /// <summary>Refused: not ready yet, or no free place.</summary>
    Busy = 1,

    /// <summary>Refused for good: it takes no more runs.</summary>
    Closed = 2,
}

/// <summary>The relay did not answer, or not in its protocol; what was asked for may have happened.</summary>
internal sealed class RelayException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Talks to the relay of one instance over its socket.</summary>
internal sealed class RelayClient : IDisposable
{
    private const int DocumentLimit = 4 << 20;
    private const int StreamPartLimit = 256 << 10;
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(10);

    // A relay serves 512 connections, an older one 128; what it does not serve would wait there until another is closed. Streams wait
    // most of the time, two connections for each of at most 200 runs, and must not keep orders and cancels waiting.
    private const int MostCalls = 64;
    private const int MostStreams = 400;
    private readonly HttpClient calls;
    private readonly HttpClient streams;

    public RelayClient(Box box)
    {
        calls = ClientOf(box, MostCalls);
        streams = ClientOf(box, MostStreams);
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "The client owns the handler.")]
    private static HttpClient ClientOf(Box box, int connections) => new(
        new SocketsHttpHandler
        {
            UseProxy = false,
            AllowAutoRedirect = false,
            UseCookies = false,
            MaxResponseHeadersLength = 64,
            MaxConnectionsPerServer = connections,
            PooledConnectionIdleTimeout = TimeSpan.FromSeconds(30),
            ConnectCallback = (_, token) => ConnectAsync(box, token),
        },
        disposeHandler: true)
    {
        BaseAddress = new Uri("http://relay/"),
        Timeout = Timeout.InfiniteTimeSpan,
        MaxResponseContentBufferSize = DocumentLimit,
    };

    public void Dispose()
    {
        calls.Dispose();
        streams.Dispose();
    }

    /// <summary>The status once its version exceeds <paramref name="after"/>, or after <paramref name="wait"/>.</summary>
    public Task<RelayStatus> GetStatusAsync(long after, TimeSpan wait, CancellationToken cancellationToken) => GetStatusAsync("", after, wait, cancellationToken);

    /// <summary>The same, with no other runs than those that changed since. A relay that is older names all.</summary>
    public Task<RelayStatus> GetChangesAsync(long after, TimeSpan wait, CancellationToken cancellationToken) => GetStatusAsync("&changed=1", after, wait, cancellationToken);

    private async Task<RelayStatus> GetStatusAsync(string what, long after, TimeSpan wait, CancellationToken cancellationToken)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"status?after={after}&waitMs={(long)wait.TotalMilliseconds}{what}");
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        var (status, body) = await SendAsync(request, wait + CallTimeout, cancellationToken);
        return status == HttpStatusCode.OK && Box.Parse<RelayStatus>(body) is { } document
            ? document
            : throw new RelayException($"The relay answered its status with {(int)status}.");
    }

    /// <summary>Hands over a run, durably once this returns.</summary>
    public async Task<RelayAnswer> PutRunAsync(string runId, RelayOrder order, byte[] payload, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put, $"runs/{runId}") { Content = new ByteArrayContent(payload) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        request.Headers.TryAddWithoutValidation("x-gputasks-order", Convert.ToBase64String(JsonSerializer.SerializeToUtf8Bytes(order, RelayJson.Options)));
        var (status, body) = await SendAsync(request, CallTimeout, cancellationToken);
        return status switch
        {
            HttpStatusCode.OK or HttpStatusCode.Created => RelayAnswer.Accepted,
            HttpStatusCode.Conflict => ErrorOf(body) switch
            {
                "busy" or "not-ready" => RelayAnswer.Busy,
                _ => RelayAnswer.Closed,
            },
            _ => throw new RelayException($"The relay answered an order with {(int)status}: {ErrorOf(body)}."),
        };
    }

    /// <summary>A part of a streamed answer.</summary>
    /// <returns>Whether the run has ended or is none of this relay's; the part, null if nothing has come yet.</returns>
    public async Task<(bool Ended, RelayAnswerPart? Part)> ReadAnswerAsync(string runId, long from, TimeSpan wait, CancellationToken cancellationToken)
    {
        var position = from < 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"from={from}&");
        using var request = new HttpRequestMessage(HttpMethod.Get, string.Create(CultureInfo.InvariantCulture, $"runs/{runId}/answer?{position}waitMs={(long)wait.TotalMilliseconds}"));
        var (status, body, head) = await SendByAsync(streams, request, wait + CallTimeout, cancellationToken);
        return status switch
        {
            HttpStatusCode.NoContent => (false, null),
            HttpStatusCode.OK when Box.Parse<RelayAnswerHead>(head) is { } found && body.Length <= StreamPartLimit => (false, new RelayAnswerPart(found, body)),
            HttpStatusCode.NotFound or HttpStatusCode.Conflict => (true, null),
            _ => throw new RelayException($"The relay answered a streamed answer's reader with {(int)status}."),
        };
    }

    /// <summary>Hands on a part of a body; null if nobody takes it any more.</summary>
    public async Task<RelayBodyReceipt?> SendBodyAsync(string runId, long from, byte[] data, bool last, TimeSpan wait, CancellationToken cancellationToken)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"runs/{runId}/body?from={from}&last={(last ? 1 : 0)}&waitMs={(long)wait.TotalMilliseconds}");
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new ByteArrayContent(data) };
        var (status, body, _) = await SendByAsync(streams, request, wait + CallTimeout, cancellationToken);
        return status switch
        {
            HttpStatusCode.OK when Box.Parse<RelayBodyReceipt>(body) is { } receipt => receipt,
            HttpStatusCode.NotFound or HttpStatusCode.Conflict => null,
            _ => throw new RelayException($"The relay answered a part of a body with {(int)status}: {ErrorOf(body)}."),
        };
    }

    /// <summary>Asks for a run's end.</summary>
    /// <returns>False if the relay knows no such run.</returns>
    public async Task<bool> CancelRunAsync(string runId, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, $"runs/{runId}");
        var (status, _) = await SendAsync(request, CallTimeout, cancellationToken);
        return status switch
        {
            HttpStatusCode.NotFound => false,
            HttpStatusCode.Accepted or HttpStatusCode.OK or HttpStatusCode.NoContent => true,
            _ => throw new RelayException($"The relay answered a cancel with {(int)status}."),
        };
    }

    /// <summary>Lets the relay forget an ended run.</summary>
    public Task AcknowledgeAsync(string runId, CancellationToken cancellationToken) => PostAsync($"runs/{runId}/ack", cancellationToken);

    /// <summary>Tells the relay how long ago the platform confirmed a report of this node.</summary>
    public Task ContactAsync(TimeSpan age, CancellationToken cancellationToken) =>
        PostAsync(string.Create(CultureInfo.InvariantCulture, $"contact?ageMs={(long)age.TotalMilliseconds}"), cancellationToken);

    /// <summary>Makes the relay take no new runs.</summary>
    public Task RetireAsync(CancellationToken cancellationToken) => PostAsync("retire", cancellationToken);

    /// <summary>Ends everything: hook, SIGTERM, SIGKILL after <paramref name="grace"/>.</summary>
    public Task StopAsync(TimeSpan grace, CancellationToken cancellationToken) =>
        PostAsync(string.Create(CultureInfo.InvariantCulture, $"stop?graceMs={(long)grace.TotalMilliseconds}"), cancellationToken);

    [SuppressMessage("Reliability", "CA2000", Justification = "The stream owns the socket.")]
    private static async ValueTask<Stream> ConnectAsync(Box box, CancellationToken cancellationToken)
    {
        using var inode = box.OpenSocket("relay.sock") ?? throw new IOException("The relay has no socket.");
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint($"/proc/self/fd/{inode.DangerousGetHandle()}"), cancellationToken);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task PostAsync(string path, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path);
        var (status, body) = await SendAsync(request, CallTimeout, cancellationToken);
        if ((int)status >= 400)
        {
            throw new RelayException($"The relay answered {path} with {(int)status}: {ErrorOf(body)}.");
        }
    }

    private static string ErrorOf(byte[] body) => Box.Parse<RelayError>(body)?.Error ?? "";

    private async Task<(HttpStatusCode Status, byte[] Body)> SendAsync(HttpRequestMessage request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var (status, body, _) = await SendByAsync(calls, request, timeout, cancellationToken);
        return (status, body);
    }

    private static async Task<(HttpStatusCode Status, byte[] Body, byte[] Head)> SendByAsync(HttpClient client, HttpRequestMessage request, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout);
        try
        {
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseContentRead, limit.Token);
            var head = response.Headers.TryGetValues("x-gputasks-answer", out var values) ? string.Concat(values) : "";
            var bytes = new byte[head.Length];
            return (response.StatusCode, await response.Content.ReadAsByteArrayAsync(limit.Token), Convert.TryFromBase64String(head, bytes, out var size) ? bytes[..size] : []);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception e) when (e is HttpRequestException or IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            throw new RelayException($"The relay did not answer: {e.Message}", e);
        }
    }

    private sealed record RelayError(string? Error);
}
