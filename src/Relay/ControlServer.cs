using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>The unix socket of PROTOCOL.md.</summary>
internal sealed class ControlServer(Box box, Instance instance) : IDisposable
{
    private const int MaxConnections = 512;
    private const long MaxBodyBytes = 64 * 1024 * 1024;

    /// <summary>Most that is read of a body that is not wanted, so that its sender gets to the answer.</summary>
    private const long MaxSkippedBytes = 4 * MaxBodyBytes;

    private const int MaxWaitMs = 60_000;

    /// <summary>Longest pause between two requests of a connection, and within one.</summary>
    private static readonly TimeSpan Idle = TimeSpan.FromMinutes(5);

    private static readonly TimeSpan Stall = TimeSpan.FromSeconds(60);

    private readonly SemaphoreSlim places = new(MaxConnections);
    private readonly Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    /// <summary>Listens from when this returns on. Who finds the socket there finds it listening.</summary>
    internal void Start()
    {
        var draft = box.SocketPath + ".tmp";
        File.Delete(draft);
        // The box may lie deeper than the 108 bytes that an address holds, so the name is taken relative where that is shorter.
        listener.Bind(new UnixDomainSocketEndPoint(ShortestPath(draft)));
        listener.Listen(MaxConnections);
        File.Move(draft, box.SocketPath, overwrite: true);
        _ = AcceptAsync();
    }

    public void Dispose()
    {
        listener.Dispose();
        places.Dispose();
        try
        {
            File.Delete(box.SocketPath);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Words.Say($"cannot delete the socket: {e.Message}");
        }
    }

    private static string ShortestPath(string path) =>
        Path.GetRelativePath(Environment.CurrentDirectory, path) is { } relative && relative.Length < path.Length ? relative : path;

    private async Task AcceptAsync()
    {
        while (true)
        {
            try
            {
                await places.WaitAsync();
                var socket = await listener.AcceptAsync();
                _ = ServeAsync(socket);
            }
            catch (ObjectDisposedException)
            {
                return;
            }
            catch (SocketException e)
            {
                places.Release();
                Words.Say($"cannot accept a connection: {e.Message}");
                await Task.Delay(100);
            }
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            using (socket)
            {
                var reader = new HttpReader(socket);
                while (await ServeOneAsync(socket, reader))
                {
                }
            }
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException)
        {
            // The caller went away; it will ask again.
        }
        finally
        {
            places.Release();
        }
    }

    /// <summary>Serves one request; false when the connection has to be closed.</summary>
    private async Task<bool> ServeOneAsync(Socket socket, HttpReader reader)
    {
        HttpHead? head;
        using (var idle = new CancellationTokenSource(Idle))
        {
            try
            {
                head = await reader.ReadHeadAsync(idle.Token);
            }
            catch (HttpWireException e)
            {
                await SendAsync(socket, Reply.Refuse(400, "bad-request", e.Message), close: true);
                return false;
            }
        }

        if (head is null)
        {
            return false;
        }

        var request = new ControlRequest(socket, reader, head);
        var reply = await ReplyAsync(request);
        var rest = await request.SkipBodyAsync(MaxSkippedBytes, Stall);
        await SendAsync(socket, reply, close: !rest || head.AsksToClose);
        return rest && !head.AsksToClose;
    }

    private async Task<Reply> ReplyAsync(ControlRequest request)
    {
        try
        {
            request.Begin(MaxBodyBytes);
            return await RouteAsync(request);
        }
        catch (TooLargeException e)
        {
            return Reply.Refuse(413, "too-large", e.Message);
        }
        catch (HttpWireException e)
        {
            return Reply.Refuse(400, "bad-request", e.Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Reply.Refuse(507, "storage", e.Message);
        }
    }

    private async Task<Reply> RouteAsync(ControlRequest request) => (request.Method, request.Segments) switch
    {
        ("GET", ["status"]) => await StatusAsync(request),
        ("POST", ["retire"]) => Retire(),
        ("POST", ["stop"]) => Stop(request),
        ("POST", ["contact"]) => Contact(request),
        (_, ["runs", var id, ..]) when !RunFiles.IsValidId(id) => Reply.Refuse(400, "bad-run-id", "A run id is 1 to 200 letters, digits, '_', '-' or '.', and does not start with '.'."),
        ("PUT", ["runs", var id]) => await PutAsync(request, id),
        ("GET", ["runs", var id]) => Run(200, id),
        ("DELETE", ["runs", var id]) => instance.Cancel(id) ? Run(202, id) : Unknown(id),
        ("POST", ["runs", var id, "ack"]) => instance.Acknowledge(id) ? Reply.Empty(204) : Running(id),
        ("GET", ["runs", var id, "response"]) => Response(id),
        ("GET", ["runs", var id, "answer"]) => await AnswerAsync(request, id),
        ("POST", ["runs", var id, "body"]) => await BodyAsync(request, id),
        (_, ["status" or "retire" or "stop" or "contact"] or ["runs", _] or ["runs", _, "ack" or "response" or "answer" or "body"]) => Reply.Refuse(405, "method", $"{request.Method} does not apply to {request.Target}."),
        _ => Reply.Refuse(404, "not-found", $"There is no {request.Target}."),
    };

    private async Task<Reply> StatusAsync(ControlRequest request)
    {
        if (!request.TryNumber("after", -1, out var after) || !request.TryNumber("waitMs", 0, out var waitMs) || !request.TryNumber("changed", 0, out var changed))
        {
            return Reply.Refuse(400, "bad-request", "'after', 'waitMs' and 'changed' are whole numbers.");
        }

        return Reply.Of(await instance.StatusAsync(after, TimeSpan.FromMilliseconds(Math.Min(waitMs, MaxWaitMs)), changed != 0));
    }

    private Reply Retire()
    {
        instance.Retire();
        return Reply.Empty(204);
    }

    private Reply Stop(ControlRequest request)
    {
        if (!request.TryNumber("graceMs", -1, out var graceMs))
        {
            return Reply.Refuse(400, "bad-request", "'graceMs' is a whole number.");
        }

        instance.Stop(graceMs < 0 ? null : (int)Math.Min(graceMs, int.MaxValue));
        return Reply.Empty(202);
    }

    private Reply Contact(ControlRequest request)
    {
        if (!request.TryNumber("ageMs", 0, out var ageMs))
        {
            return Reply.Refuse(400, "bad-request", "'ageMs' is a whole number.");
        }

        instance.Contact(ageMs);
        return Reply.Empty(204);
    }

    private async Task<Reply> PutAsync(ControlRequest request, string id)
    {
        if (request.Order() is not { } order)
        {
            return Reply.Refuse(400, "bad-order", "The header x-gputasks-order is not the base64 of an order with a path, a method, safe headers and a limit above 0.");
        }

        return await instance.AcceptAsync(id, order, path => request.SaveBodyAsync(path, MaxBodyBytes, Stall)) switch
        {
            Admission.Accepted => Run(201, id),
            Admission.Known => Run(200, id),
            Admission.StaleEpoch => Reply.Refuse(409, "stale-epoch", $"Epoch {order.Epoch} is older than one already seen."),
            Admission.NotReady => Reply.Refuse(409, "not-ready", "The function is not ready yet."),
            Admission.Retiring => Reply.Refuse(409, "retiring", "The instance takes no more runs."),
            _ => Reply.Refuse(409, "busy", "The instance has no place for another run."),
        };
    }

    private Reply Response(string id) => instance.Find(id) switch
    {
        null => Unknown(id),
        { State: RunStates.Running } => Running(id),
        { Outcome: Outcomes.Answered } run => Reply.File(instance.ResponsePath(id), run.ResponseBytes),
        _ => Reply.Refuse(404, "no-response", $"Run {id} ended without an answer."),
    };

    /// <summary>The answer of a run that streams from a position on; without one, from the start and as soon as there is a head.</summary>
    private async Task<Reply> AnswerAsync(ControlRequest request, string id)
    {
        if (!request.TryNumber("from", -1, out var from) || !request.TryNumber("waitMs", 0, out var waitMs))
        {
            return Reply.Refuse(400, "bad-request", "'from' and 'waitMs' are whole numbers.");
        }

        var wait = TimeSpan.FromMilliseconds(Math.Min(waitMs, MaxWaitMs));
        if (instance.FindStream(id) is not { Answer: { } answer } run)
        {
            return instance.Find(id) is { State: RunStates.Running } ? Reply.Refuse(404, "no-stream", $"The answer of run {id} is not streamed.") : Ended(id);
        }

        if (!run.Head.Task.IsCompleted)
        {
            var since = Stopwatch.GetTimestamp();
            await Task.WhenAny(run.Head.Task, run.Execution, Task.Delay(wait));
            wait -= Stopwatch.GetElapsedTime(since);
        }

        if (from < 0 || wait < TimeSpan.Zero)
        {
            (from, wait) = (Math.Max(from, 0), TimeSpan.Zero);
        }

        if (run.Head.Task is not { IsCompletedSuccessfully: true } head)
        {
            return instance.FindStream(id) is null ? Ended(id) : Reply.Empty(204);
        }

        var read = await answer.ReadAsync(from, StreamWindow.Capacity, wait, CancellationToken.None);
        return instance.FindStream(id) is null ? Ended(id)
            : read is { } part ? Reply.Of(await head, part.Bytes)
            : Reply.Refuse(400, "bad-request", $"Run {id} has no byte {from}, or it was read before.");
    }

    private async Task<Reply> BodyAsync(ControlRequest request, string id)
    {
        if (!request.TryNumber("from", 0, out var from) || !request.TryNumber("last", 0, out var last) || !request.TryNumber("waitMs", 0, out var waitMs))
        {
            return Reply.Refuse(400, "bad-request", "'from', 'last' and 'waitMs' are whole numbers.");
        }

        var bytes = await request.ReadBodyAsync(StreamWindow.Capacity, Stall);
        if (instance.FindStream(id) is not { Body: { } body })
        {
            return instance.Find(id) is { State: RunStates.Running } ? Reply.Refuse(404, "no-stream", $"Run {id} has its body.") : Ended(id);
        }

        var received = await body.OfferAsync(from, bytes, last != 0, TimeSpan.FromMilliseconds(Math.Min(waitMs, MaxWaitMs)));
        return Reply.Of(new BodyReceipt(received, body.Closed));
    }

    private Reply Ended(string id) => instance.Find(id) is null ? Unknown(id) : Reply.Refuse(409, "ended", $"Run {id} has ended.");

    private Reply Run(int status, string id) => instance.Find(id) is { } run ? Reply.Of(status, run) : Unknown(id);

    private static Reply Unknown(string id) => Reply.Refuse(404, "unknown-run", $"There is no run {id}.");

    private static Reply Running(string id) => Reply.Refuse(409, "running", $"Run {id} is running.");

    private static async Task SendAsync(Socket socket, Reply reply, bool close)
    {
        using var stall = new CancellationTokenSource(Stall);
        var headers = new Dictionary<string, string>();
        if (reply.Status != 204)
        {
            headers["Content-Length"] = reply.Length.ToString(CultureInfo.InvariantCulture);
            headers["Content-Type"] = reply.IsBytes ? "application/octet-stream" : "application/json";
        }

        if (reply.Head is { } head)
        {
            headers["x-gputasks-answer"] = Convert.ToBase64String(JsonSerializer.SerializeToUtf8Bytes(head, Json.Default.AnswerHead));
        }

        if (close)
        {
            headers["Connection"] = "close";
        }

        await HttpWriter.WriteHeadAsync(socket, string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 {reply.Status} {Reply.Phrase(reply.Status)}"), headers, stall.Token);
        if (reply.FilePath is { } path)
        {
            await HttpWriter.WriteFileAsync(socket, path, reply.Length, stall.Token);
        }
        else
        {
            await HttpWriter.WriteAsync(socket, reply.Body, stall.Token);
        }
    }
}
