using System.Net;
using System.Net.Sockets;
using System.Text;

namespace GpuTasks.Relay.Tests;

/// <summary>A web server in the test's own hands: it sees each request and answers with the bytes it is told to.</summary>
internal sealed class ScriptedFunction : IDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);

    internal ScriptedFunction() => listener.Start();

    internal int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

    /// <summary>The next connection that sends anything; the relay's first connect only looks whether somebody listens.</summary>
    internal async Task<ScriptedCall> NextAsync(bool readBody = true)
    {
        while (true)
        {
            var socket = await listener.AcceptSocketAsync(Deadline.Token);
            if (await ScriptedCall.ReadAsync(socket, readBody) is { } call)
            {
                return call;
            }

            socket.Dispose();
        }
    }

    public void Dispose() => listener.Dispose();
}

/// <summary>One request, waiting for its answer.</summary>
internal sealed class ScriptedCall : IDisposable
{
    private readonly Socket socket;

    private ScriptedCall(Socket socket, string head, byte[] body)
    {
        this.socket = socket;
        Head = head;
        Body = body;
    }

    internal string Head { get; }

    internal string FirstLine => Head.Split('\n')[0];

    internal byte[] Body { get; }

    internal static async Task<ScriptedCall?> ReadAsync(Socket socket, bool readBody)
    {
        var reader = new HttpReader(socket);
        if (await reader.ReadHeadAsync(Deadline.Token) is not { } head)
        {
            return null;
        }

        reader.ExpectBody(head, untilClose: false);
        using var body = new MemoryStream();
        var buffer = new byte[65536];
        while (readBody && await reader.ReadBodyAsync(buffer, Deadline.Token) is var count && count > 0)
        {
            await body.WriteAsync(buffer.AsMemory(0, count), Deadline.Token);
        }

        var text = head.FirstLine + "\n" + string.Join("\n", head.Headers.Select(h => $"{h.Key.ToLowerInvariant()}: {h.Value}"));
        return new ScriptedCall(socket, text, body.ToArray());
    }

    internal async Task SendAsync(string bytes) => await HttpWriter.WriteAsync(socket, Encoding.Latin1.GetBytes(bytes), Deadline.Token);

    internal async Task AnswerAsync(string body = "", int status = 200) =>
        await SendAsync($"HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\ncontent-length: {body.Length}\r\n\r\n{body}");

    /// <summary>Completes when the relay gives the connection up.</summary>
    internal async Task ClosedByRelayAsync()
    {
        try
        {
            Assert.Equal(0, await socket.ReceiveAsync(new byte[1], Deadline.Token));
        }
        catch (SocketException)
        {
            // Reset: also closed.
        }
    }

    public void Dispose() => socket.Dispose();
}
